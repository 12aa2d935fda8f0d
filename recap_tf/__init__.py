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
training), and nothing imports it. It imports what it works with after its flags are
parsed: `--help` does not wait for TensorFlow.

What a Keras user would use alone is imported from here: `from recap_tf import MaskNet`.
"""

import os

from recap_tf.core import quiet_tensorflow
from recap_tf.core.face import lazy_face

# tensorflow-recommenders needs Keras 2; this has to be said before TensorFlow is
# imported by anyone.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
# What TensorFlow's C++ code warns of, it raises too.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
quiet_tensorflow.hide_start_up()

__getattr__, __dir__, __all__ = lazy_face(
    __name__,
    {
        "core.embeddings.embedding_tables": ["EmbeddingTables"],
        "core.embeddings.open_vocabulary": ["OpenVocabulary"],
        "core.embeddings.table_spec": ["TableSpec"],
        "core.optimizers.grouped": ["GroupedOptimizer"],
        "core.optimizers.lazy_adam": ["LazyAdam"],
        "core.optimizers.learning_rate_schedules": [
            "LinearRampToConstant",
            "LinearRampToCosine",
        ],
        "core.optimizers.sparse_adagrad": ["RowWiseAdagrad", "SparseAdagrad"],
        "core.optimizers.sparse_ftrl": ["SparseFTRL"],
        "core.optimizers.sparse_sgd": ["SparseSGD"],
        "data.record_batches": ["Records", "read_batches"],
        "data.schema": ["Schema", "read_schema"],
        "metrics.auroc": ["AUROC"],
        "metrics.average_precision": ["AveragePrecision"],
        "metrics.binned_auroc": ["BinnedAUROC"],
        "metrics.calibration_error": ["CalibrationError"],
        "metrics.calibration_ratio": ["CalibrationRatio"],
        "metrics.ctr": ["CTR", "PCTR"],
        "metrics.grouped_auroc": ["GroupedAUROC"],
        "metrics.hit_rate": ["HitRate"],
        "metrics.log_loss": ["LogLoss"],
        "metrics.mrr": ["MeanReciprocalRank"],
        "metrics.ndcg": ["NDCG"],
        "metrics.normalized_entropy": ["NormalizedEntropy"],
        "metrics.nrce": ["NRCE"],
        "metrics.precision_recall": ["Precision", "Recall"],
        "metrics.rce": ["RCE"],
        "metrics.sampled_auroc": ["SampledAUROC"],
        "model.calibration_fits": ["fit_isotonic", "fit_platt"],
        "model.calibrators": ["IsotonicMap", "PlattMap"],
        "model.dcn": ["DCN"],
        "model.dlrm": ["DLRM"],
        "model.large_embeddings": ["LargeEmbeddings"],
        "model.mask_net": ["MaskBlock", "MaskNet"],
        "model.mlp": ["MLP"],
        "model.mmoe": ["MMoE"],
        "model.normalization": ["BatchNorm"],
        "model.ple": ["CGC", "PLE"],
        "model.position_debias": ["PositionDebias"],
        "model.preprocessors": [
            "ClipLog1pAbs",
            "DoubleNormLog",
            "Log1pAbs",
            "ZScoreLog",
        ],
        "model.ranking_model": ["RankingModel"],
        "model.small_embeddings": ["SmallEmbeddings"],
        "losses.focal_loss": ["FocalLoss"],
        "losses.grad_norm": ["GradNorm"],
        "losses.multi_task_loss": ["MultiTaskLoss"],
        "losses.pairwise_loss": ["PairwiseLogistic"],
        "losses.pcgrad": ["PCGrad"],
        "losses.uncertainty_weighting": ["UncertaintyWeighting"],
        "losses.weighted_cross_entropy": ["CrossEntropy"],
    },
)
