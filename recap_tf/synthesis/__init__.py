"""Made-up ranking data of which the best reachable AUROC is known.

    columns, latent_columns    how the values of one feature are drawn
    features                   a schema -> how to draw each of its features
    hidden_model               stored values -> true log-odds of every task
    examples                   batches of examples, labels drawn from the log-odds
    report                     what a set of them holds, and how well it can be ranked

`recap_tf.synthesis.record_sets` writes them to files.
"""
