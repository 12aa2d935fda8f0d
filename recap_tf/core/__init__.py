"""What the ranker and the graph embeddings share; it imports neither.

The rooms in reading order; none imports one below it:

    checks         of single values
    command        errors of users, exit codes, what is said on the way
    arguments      flags that several commands take
    face           what is imported from a package itself, at its first use
    quiet_tensorflow  no chatter when TensorFlow is imported
    files          paths on any file system
    text_table     columns of text
    model_versions numbered folders
    values         one meaning per value, whatever type or file it is from
    arrow_streams  files on any file system, as pyarrow reads and writes them
    row_files      parquet and CSV files -> chunks of rows
    made_data      folders of data that is made up
    config         gin files, checked
    keras_privates Keras's private names, all in one file
    storage        tables of vectors in memory
    optimizers     of groups of weights, and of single rows of tables
    embeddings     one table spec: ids -> rows -> vectors
    training       checkpoints, the loop, strategies, clusters
"""
