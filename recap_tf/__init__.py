"""A heavy ranker: scores one post for one viewer, once per kind of engagement.

Read in this order; no module imports one below it:

    schema              what one record holds
    labels              the tasks, and how each data set was sampled
    record_files        which files a data set consists of, and whether they are whole
    preprocess, input   record files -> batches of (features, labels, weights)
    fields              the named parts of a network's input
    features            the preprocessors: raw columns -> one dense vector
    mlp, mask_net, dcn, dlrm    networks, each a backbone, a tower or an expert
    mmoe, ple           mixtures of experts: a vector of its own for each task
    embeddings, large_embeddings, position_debias    ids -> vectors
    score, calibrators  probabilities -> the final score; post-hoc calibration maps
    vector_join         vectors of entities -> the records that name them
    model               features -> one logit per task
    pointwise_loss, pairwise_loss, losses    logits, labels, weights -> task losses
    task_balancing, grad_norm, pcgrad        task losses -> gradients
    validation_sets, slices, metric_choice   what to evaluate, on which examples
    evaluation, evaluation_report            how good the model is
    calibration, early_stopping, best_checkpoint, continuous_evaluation
                        what follows from an evaluation
    settings            what a config file says, as one object per command
    building            settings -> a model that is not trained yet
    training_input, training_step, training    settings -> checkpoints
    serving_inputs, warmup_requests, serving_signatures    what a served model answers
    serving_variants, variant_comparison     its smaller forms, and what they change
    serving_model       a trained model -> a SavedModel
    train, evaluate, calibrate, export, synthetic, convert, inspect, engagement_edges,
    join_vectors        the commands

Beside them: record_checks, record_probe and read_errors say what is wrong with data;
`synthesis` makes data up, `conversion` makes records of tables, `inspection` looks at
records, `report` makes a page of an evaluation. Commands are leaves: nothing imports
them.

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
