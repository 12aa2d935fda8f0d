"""Graph embeddings of users, posts and ads: TwHIN (arXiv:2202.05387).

Read in this order; no module imports one below it:

    graph               what a folder of edges holds: types, relations, splits
    entities            which entity each row of a table stands for
    edge_buckets        edges dealt out to files on disk, and back in random order
    raw_edges, raw_types, raw_splits    edges with raw ids, and where each belongs
    conversion          raw edges -> entities, rows and a config
    packing, edges      parquet of rows -> batches of (lhs, relation, rhs)
    synthetic_graph     graphs that are made up
    vocabulary, synthetic    the commands

What it shares with the ranker lives in `recap_tf.core`; nothing else of `recap_tf` is
imported here.
"""

# Says which Keras before TensorFlow is imported, and silences its start-up.
import recap_tf  # noqa: F401
