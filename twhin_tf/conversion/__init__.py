"""Edges with any ids -> a graph folder: types, splits, vocabularies.

raw_edges                  files of edges in blocks of rows
type_rules, split_rules    of which types its nodes are, which split an edge is for
typed_blocks               blocks of edges with both
entity_counts              which entities there are, the most frequent first
graph_folder               two passes over the edges -> a graph folder
"""
