"""A heavy ranker: scores one post for one viewer, once per kind of engagement.

The rooms in reading order; none imports one below it:

    core        what the graph embeddings share: settings, tables, optimizers, the loop
    data        record files -> batches of (features, labels, weights)
    metrics     labels and predictions -> numbers with standard errors
    model       features -> one logit per task, and the calibrators after it
    losses      logits, labels, weights -> gradients, balanced over tasks
    evaluation  how good a model is, on which sets, and what follows from it
    synthesis   data that is made up, with a hidden model
    settings    what a config file says, as one object per command
    training    settings -> checkpoints
    exporting   a trained model -> SavedModels
    conversion  parquet and CSV files -> records and a config
    inspection  what records hold
    report      an evaluation -> one HTML page

A verb beside them is a command: it has its work in the room of the same stem (train ->
training), and nothing imports it.
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
