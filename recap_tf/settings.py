"""What a config file says, as one object per command.

recap.ranker    what is trained: tasks, data, model, loss, optimizer
recap.train     how long, where to, how often things happen on the way
recap.evaluate  how an evaluation reads its sets
recap.export    where a trained model goes
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Literal

import gin

# Imported for their names in configs.
from recap_tf import (  # noqa: F401
    embeddings,
    features,
    labels,
    large_embeddings,
    mask_net,
    mlp,
    preprocess,
)
from recap_tf.core.optimizers import GroupedOptimizer
from recap_tf.core.strategy import StrategyName
from recap_tf.early_stopping import EarlyStopping
from recap_tf.input import Records
from recap_tf.losses import MultiTaskLoss
from recap_tf.model import RankingModel
from recap_tf.synthetic_data import SyntheticData
from recap_tf.validation_sets import ValidationSet

ROOTS = ("recap.ranker", "recap.train", "recap.evaluate", "recap.export")


@gin.configurable("ranker", module="recap")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Ranker:
    """What is trained, evaluated and exported.

    Args:
        tasks: names of the labels, in the order of the model's outputs.
        train_data: the training set.
        validation_sets: evaluated during and after training.
        model: makes the model; see `recap_tf.model.create_ranking_model`.
        optimizer: makes the optimizer from the model's `parameter_groups()`.
        loss: of all tasks.
        precision: what matrix products compute in. Weights are float32 in both.
        synthetic_data: if given, data that training makes first, where it is missing.
    """

    tasks: Sequence[str]
    train_data: Records
    validation_sets: Sequence[ValidationSet] = ()
    model: Callable[..., RankingModel]
    optimizer: Callable[..., GroupedOptimizer]
    loss: MultiTaskLoss = dataclasses.field(default_factory=MultiTaskLoss)
    precision: Literal["float32", "bfloat16"] = "float32"
    synthetic_data: SyntheticData | None = None

    def __post_init__(self):
        labels.check_tasks(self.tasks)
        names = [named.name for named in self.validation_sets]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(
                f"recap.ranker.validation_sets holds {twice} more than once."
            )
        for named in self.validation_sets:
            setting = f"tasks of validation set {named.name!r}"
            labels.check_known(setting, named.tasks or (), self.tasks)
            setting = f"sampling_rates of validation set {named.name!r}"
            labels.check_known(setting, named.records.sampling_rates, self.tasks)
        setting = "recap.ranker.train_data's sampling_rates"
        labels.check_known(setting, self.train_data.sampling_rates, self.tasks)
        labels.check_known(
            "MultiTaskLoss.pos_weights", self.loss.pos_weights, self.tasks
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
        initial_checkpoint_dir: start from these weights, at step 0 (warm start).
        checkpoint_every: steps between checkpoints; one more is made at the end.
        checkpoints_to_keep: the newest so many stay; none for all.
        log_every: steps between entries in TensorBoard.
        evaluate_every: steps between evaluations of the validation sets; one more is
            made at the end. None for that one only.
        early_stopping: ends training before `steps`.
        strategy: "one_device", "mirrored", "multi_worker" or "tpu".
        tpu: name or address of the TPU.
        seed: of the initial weights, of dropout and of the order of the data.
        deterministic: the same run gives the same bits; slower on some devices.
    """

    save_dir: str
    batch_size: int
    steps: int = 1_000_000
    gradient_accumulation: int = 1
    initial_checkpoint_dir: str | None = None
    checkpoint_every: int = 1000
    checkpoints_to_keep: int | None = None
    log_every: int = 1000
    evaluate_every: int | None = 5000
    early_stopping: EarlyStopping | None = None
    strategy: StrategyName = "one_device"
    tpu: str = ""
    seed: int = 0
    deterministic: bool = False

    def __post_init__(self):
        for name in ("batch_size", "steps", "gradient_accumulation"):
            _check_at_least_one("recap.train", name, getattr(self, name))
        for name in ("checkpoint_every", "log_every"):
            _check_at_least_one("recap.train", name, getattr(self, name))
        for name in ("evaluate_every", "checkpoints_to_keep"):
            if getattr(self, name) is not None:
                _check_at_least_one("recap.train", name, getattr(self, name))
        if self.early_stopping is not None and self.evaluate_every is None:
            raise ValueError(
                "recap.train.early_stopping needs recap.train.evaluate_every."
            )


@gin.configurable("export", module="recap")
@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """Where a trained model goes.

    Args:
        folder: versions of the model appear below it, as TF Serving watches for;
            none for no export at the end of training.
    """

    folder: str | None = None


def _check_at_least_one(owner: str, name: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"{owner}.{name} must be at least 1. Received: {value}")
