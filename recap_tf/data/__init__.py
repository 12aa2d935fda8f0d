"""Record files -> batches of (features, labels, weights); what is wrong with them."""
