"""Features -> one logit per task: preprocessors, networks, embeddings, calibrators."""
