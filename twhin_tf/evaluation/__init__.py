"""Ranks of held-out edges, beside ranking by popularity.

known_answers        which edges are true: what filtered ranks leave out
edge_scorers         what a ranking asks of a model
query_groups         queries that are ranked among the same candidates
filtered_ranks       the rank of the true node among all candidates
popularity           ranks by how often a node is an end
rank_metrics         MRR, mean rank, hits, AUC
evaluator            a split's edges -> metrics per relation and overall
evaluation_report    the metrics as a table
"""
