"""Graph folders that are made up, whose best reachable MRR is known.

community_model    nodes and edges with communities and power-law degrees
synthetic_graph    the settings -> a graph folder
"""
