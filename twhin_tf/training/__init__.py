"""Settings -> checkpoints. `trainer` chooses by where the node tables are in training:

    memory_training         in memory, on one device or several
    partitioned_training    on disk, a few partitions at a time in memory
    cluster_training        on parameter servers
    tpu_training            in the embedding cores of a TPU

The run itself, which ranker and graph embeddings share, is `core.training.run`.
"""
