"""Graph embeddings of users, posts and ads: TwHIN (arXiv:2202.05387).

Read in this order; no module imports one below it:

    graph               what a folder of edges holds: types, relations, splits
    entities            which entity each row of a table stands for
    hashing, entity_counts, edge_buckets    what keeps memory bounded
    edge_files          parquet files of (lhs, rel, rhs), checked against the graph
    raw_edges, raw_types, raw_splits, raw_parts
                        edges with raw ids, and where each belongs
    graph_config        a config that trains on a folder
    conversion          raw edges -> a graph folder
    community_model, synthetic_graph    graph folders that are made up
    packing, edges      a graph folder -> batches of (lhs, relation, rhs)
    grouped_product, node_tables    vectors of nodes, and many products of them at once
    edge_batch, batch_draws                      a batch's vectors, and members of it
    operators, comparators, negatives, losses    the parts of a score and of its loss
    lookups             what a batch looks up, listed ahead of its step
    model               edges -> scores -> loss
    known_edges, query_groups, link_prediction, popularity, evaluation
                        ranks of held-out edges
    neighbours, product_quantization, inverted_file, retrieval    nearest nodes
    vectors, projector, plot, exporting    a trained model -> files and SavedModels
    settings            what a config file says, as one object per command
    building            settings -> a model that is not trained yet
    old_vectors, warm_start    a training that starts from another one's vectors
    partition_order, partition_files, partition_buffer, partitioned_edges,
    partitioned_checkpoints, partitions, disk_tables    tables larger than memory
    training_step, tpu_step    one update
    trained, training, partitioned_training, cluster_training, tpu_training
                        settings -> checkpoints
    after_training      metrics and an export at the end
    vocabulary, synthetic, train, evaluate, export    the commands

What it shares with the ranker lives in `recap_tf.core`; nothing else of `recap_tf` is
imported here.
"""

# Says which Keras before TensorFlow is imported, and silences its start-up.
import recap_tf  # noqa: F401
