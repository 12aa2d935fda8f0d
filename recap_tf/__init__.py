"""A heavy ranker: scores one post for one viewer, once per kind of engagement.

Read in this order; no module imports one below it:

    schema      what one record holds
    labels      the tasks, and how each data set was sampled
    input       record files -> batches of (features, labels, weights)
    features    the preprocessors: raw columns -> one dense vector
    mlp, mask_net, embeddings    the parts of the network
    model       features -> one logit per task
    losses      logits, labels, weights -> one number to minimise
    settings    what a config file says, as one object per command
    training, evaluation, serving_model    the work behind the commands
    train, evaluate, export, synthetic, convert, inspect    the commands

What the graph embeddings share with the ranker lives in `recap_tf.core`.
"""

import os

# tensorflow-recommenders needs Keras 2; this has to be said before TensorFlow is
# imported by anyone.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
# TensorFlow's C++ chatter at start hides the one line that a user should read. What
# goes wrong there is raised as an exception too.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
