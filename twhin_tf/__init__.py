"""Graph embeddings of users, posts and ads (TwHIN, arXiv:2202.05387): not built yet.

Will read edges of (lhs, relation, rhs), train one embedding table per node type on what
`recap_tf.core` offers, and hand the vectors to retrieval and to the ranker.
"""
