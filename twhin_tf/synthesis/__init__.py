"""Graph folders that are made up, whose best reachable MRR is known."""
