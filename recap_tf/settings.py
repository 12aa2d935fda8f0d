"""What a config file says, as one object per command.

recap.ranker    what is trained: tasks, data, model, loss, optimizer
recap.train     how long, where to, how often things happen on the way
recap.evaluate  how an evaluation reads its sets
recap.report    how much of the data a report looks at
recap.calibrate how post-hoc calibrators are fitted
recap.export    where a trained model goes
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import gin

# Imported for their names in configs.
from recap_tf.data import downsampling, feature_steps, late_labels  # noqa: F401
from recap_tf.evaluation import calibrator_fitting, report_settings  # noqa: F401
from recap_tf.losses import (  # noqa: F401
    focal_loss,
    grad_norm,
    pcgrad,
    uncertainty_weighting,
)
from recap_tf.model import (  # noqa: F401
    dcn,
    dlrm,
    large_embeddings,
    mask_net,
    mlp,
    mmoe,
    ple,
    position_debias,
    preprocessors,
    small_embeddings,
)

# isort: split
from recap_tf.core.checks import check_range
from recap_tf.core.optimizers.grouped import GroupedOptimizer
from recap_tf.core.training.strategy import StrategyName
from recap_tf.data.record_batches import Records
from recap_tf.data.tasks import check_known, check_tasks
from recap_tf.evaluation.best_checkpoint import parse_watched
from recap_tf.evaluation.early_stopping import EarlyStopping
from recap_tf.evaluation.validation_sets import ValidationSet
from recap_tf.losses.multi_task_loss import MultiTaskLoss
from recap_tf.model.ranking_model import RankingModel
from recap_tf.model.score import check_score_weights
from recap_tf.synthesis.record_sets import SyntheticData

ROOTS = (
    "recap.ranker",
    "recap.train",
    "recap.evaluate",
    "recap.report",
    "recap.calibrate",
    "recap.export",
)


@gin.configurable("ranker", module="recap")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Ranker:
    """What is trained, evaluated and exported.

    Args:
        tasks: names of the labels, in the order of the model's outputs.
        train_data: the training set.
        validation_sets: evaluated during and after training.
        model: makes the model; see `recap_tf.model.ranking_model.create_ranking_model`.
        optimizer: makes the optimizer from the model's `parameter_groups()`.
        loss: of all tasks, with how they are weighed and balanced.
        score_weights: task -> what its calibrated probability counts for in the final
            score; 0 where not listed, none at all for no score.
        precision: what matrix products compute in. Weights are float32 in both.
        synthetic_data: if given, data that training makes first, where it is missing.
    """

    tasks: Sequence[str]
    train_data: Records
    validation_sets: Sequence[ValidationSet] = ()
    model: Callable[..., RankingModel]
    optimizer: Callable[..., GroupedOptimizer]
    loss: MultiTaskLoss = dataclasses.field(default_factory=MultiTaskLoss)
    score_weights: Mapping[str, float] = dataclasses.field(default_factory=dict)
    precision: Literal["float32", "bfloat16"] = "float32"
    synthetic_data: SyntheticData | None = None

    def __post_init__(self):
        check_tasks(self.tasks)
        names = [named.name for named in self.validation_sets]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(
                f"recap.ranker.validation_sets holds {twice} more than once."
            )
        for named in self.validation_sets:
            setting = f"tasks of validation set {named.name!r}"
            check_known(setting, named.tasks or (), self.tasks)
            setting = f"sampling_rates of validation set {named.name!r}"
            check_known(setting, named.records.sampling_rates, self.tasks)
        for records in [self.train_data, *(s.records for s in self.validation_sets)]:
            for step in records.preprocess:
                step.check_tasks(self.tasks)
        setting = "recap.ranker.train_data's sampling_rates"
        check_known(setting, self.train_data.sampling_rates, self.tasks)
        self.loss.check_tasks(self.tasks)
        check_score_weights(
            "recap.ranker.score_weights", self.score_weights, self.tasks
        )


@gin.configurable("train", module="recap")
@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """How a model is trained.

    Args:
        save_dir: checkpoints, logs and the settings in force go here. Training again
            with the same folder goes on where the newest checkpoint is.
        batch_size: examples per batch over all replicas.
        steps: updates, counted from the first start.
        gradient_accumulation: batches whose mean gradient makes one update.
        clip_norm: upper limit, above 0, of the norm of an update's gradient, over all
            weights of the model together; none for no limit.
        initial_checkpoint_dir: start from these weights, at step 0 (warm start).
        checkpoint_every: steps between checkpoints; one more is made at the end.
        checkpoints_to_keep: the newest so many stay; none for all.
        keep_best: "SET/METRIC" or "SET/METRIC/TASK"; of the evaluated checkpoints the
            best by this stays besides, for `--best`.
        log_every: steps between entries in TensorBoard.
        evaluate_every: steps between evaluations of the validation sets; one more is
            made at the end. None for that one only.
        early_stopping: ends training before `steps`.
        wait_for_evaluator: leave all evaluation to `recap_tf.evaluate --follow`, which
            runs beside the training; needs evaluate_every = None. Checkpoints stay
            until they are evaluated, and the training ends, and exports, when the last
            one is; see recap.evaluate.timeout_seconds.
        calibrate: fit post-hoc calibrators at the end, as recap.calibrate says.
        strategy: "one_device", "mirrored", "multi_worker" or "tpu".
        tpu: name or address of the TPU.
        seed: of the initial weights, of dropout and of the order of the data.
        deterministic: the same run gives the same bits; slower on some devices.
    """

    save_dir: str
    batch_size: int
    steps: int = 1_000_000
    gradient_accumulation: int = 1
    clip_norm: float | None = None
    initial_checkpoint_dir: str | None = None
    checkpoint_every: int = 1000
    checkpoints_to_keep: int | None = None
    keep_best: str | None = None
    log_every: int = 1000
    evaluate_every: int | None = 5000
    early_stopping: EarlyStopping | None = None
    wait_for_evaluator: bool = False
    calibrate: bool = False
    strategy: StrategyName = "one_device"
    tpu: str = ""
    seed: int = 0
    deterministic: bool = False

    def __post_init__(self):
        for name, none in (
            ("batch_size", None),
            ("steps", None),
            ("gradient_accumulation", None),
            ("checkpoint_every", None),
            ("log_every", None),
            ("evaluate_every", "the end of training only"),
            ("checkpoints_to_keep", "all"),
        ):
            setting = f"recap.train.{name}"
            check_range(setting, getattr(self, name), at_least=1, none=none)
        check_range("recap.train.clip_norm", self.clip_norm, above=0, none="no limit")
        if self.early_stopping is not None and self.evaluate_every is None:
            raise ValueError(
                "recap.train.early_stopping needs recap.train.evaluate_every."
            )
        if self.keep_best is not None:
            parse_watched(self.keep_best, "recap.train.keep_best")
        if self.wait_for_evaluator and self.evaluate_every is not None:
            raise ValueError(
                "recap.train.wait_for_evaluator needs recap.train.evaluate_every = "
                f"None: the evaluator does that work. Received: {self.evaluate_every}"
            )


@gin.configurable("export", module="recap")
@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """Where a trained model goes, and what its requests look like.

    Features are named as inside the model. Columns are counted as the records hold
    them, before any step of `Records.preprocess`.

    Args:
        folder: versions of the model appear below it, as TF Serving watches for;
            none for no export at the end of training.
        viewer_features: features that say nothing of the candidate: the signature
            `rank` takes them once per request, not for every candidate.
        viewer_columns: feature -> [(first, end), ...], ranges of its columns that are
            the viewer's, `end` not included; `rank` takes them once, as
            "<feature>_viewer". Columns that the model does not read may be listed too:
            then they are sent once.
        warmup_sizes: signature -> rows (examples, candidates) of each request that is
            recorded for it, of rows of the training data. A server answers them
            before the version takes traffic. The file takes as many bytes as they do.
    """

    folder: str | None = None
    viewer_features: Sequence[str] = ()
    viewer_columns: Mapping[str, Sequence[tuple[int, int]]] = dataclasses.field(
        default_factory=dict
    )
    warmup_sizes: Mapping[str, Sequence[int]] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        for name, sizes in self.warmup_sizes.items():
            for size in sizes:
                check_range(f"recap.export.warmup_sizes[{name!r}]", size, at_least=1)
