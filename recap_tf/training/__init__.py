"""Settings -> checkpoints: builds a ranker, feeds it, updates it."""
