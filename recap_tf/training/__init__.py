"""Settings -> checkpoints: builds a ranker, feeds it, updates it.

The run itself, which ranker and graph embeddings share, is `core.training.run`.
"""
