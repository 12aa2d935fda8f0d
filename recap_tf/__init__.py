"""A heavy ranker: scores one post for one viewer, once per kind of engagement.

Read in this order; no module imports one below it:

    schema              what one record holds
    labels              the tasks, and how each data set was sampled
    record_files        which files a data set consists of, and whether they are whole
    preprocess, input   record files -> batches of (features, labels, weights)
    features            the preprocessors: raw columns -> one dense vector
    mlp, mask_net, embeddings    the parts of the network
    model               features -> one logit per task
    losses              logits, labels, weights -> one number to minimise
    validation_sets, evaluation, early_stopping    how good the model is
    settings            what a config file says, as one object per command
    training, serving_model      from settings to checkpoints and SavedModels
    train, evaluate, export, synthetic, convert, inspect    the commands

Beside them: record_checks, record_probe and read_errors say what is wrong with data;
`synthesis` makes data up, `conversion` makes records of tables, `inspection` looks at
records. Commands are leaves: nothing imports them.

What the graph embeddings share with the ranker lives in `recap_tf.core`.
"""

import contextlib
import os
import sys

# tensorflow-recommenders needs Keras 2; this has to be said before TensorFlow is
# imported by anyone.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
# What TensorFlow's C++ code warns of, it raises too.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@contextlib.contextmanager
def _silent_stderr():
    """Hides what C++ code writes to stderr."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


# TensorFlow's start-up chatter, which no setting turns off, would hide the one line
# that a user should read. Failures still raise.
with _silent_stderr():
    import tensorflow as tf

    tf.config.list_physical_devices()
