"""Tables larger than memory: partitions on disk and what of them is in memory."""
