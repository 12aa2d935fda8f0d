"""Tables of vectors in memory: cut in shards, in 16 bits, in huge pages."""
