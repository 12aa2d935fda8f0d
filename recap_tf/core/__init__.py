"""What the ranker and the graph embeddings share; imports nothing of either."""
