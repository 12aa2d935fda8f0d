"""Settings -> checkpoints, on one device, partitions, parameter servers or a TPU."""
