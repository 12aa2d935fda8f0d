"""What a folder of edges holds, and batches of its edges.

graph, graph_config      node types, relations, splits; the config to train with
edge_files, entities     parquet files of edges; which entity each row stands for
edge_hashes, edge_buckets, packed_edges
                         edges dealt out, shuffled and packed in bounded memory
edge_batches             a graph folder -> batches of (lhs, relation, rhs)
"""
