"""One table spec for every embedding: ids -> rows -> vectors, on a host or a TPU."""
