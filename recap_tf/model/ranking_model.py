"""The ranking model: features of (viewer, post) pairs -> one probability per task."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import gin
import tensorflow as tf
import tf_keras as keras

from recap_tf.data import sampling
from recap_tf.data.record_batches import FeatureSpec
from recap_tf.data.tasks import check_known, check_tasks, identifier
from recap_tf.model import score
from recap_tf.model.affine_map import AffineMap
from recap_tf.model.calibrators import Calibrators
from recap_tf.model.fields import DENSE, SHARED, Fields, apply
from recap_tf.model.layers import LayerOrFactory, make_layer
from recap_tf.model.mmoe import PerTaskBackbone
from recap_tf.model.position_debias import check_positions_are_hidden
from recap_tf.model.small_embeddings import STORED_EMBEDDINGS

Sharing = Literal["share_none", "share_all", "share_partial"]
BACKBONE = "backbone"
"""The group of all weights that are not a task's own."""


@gin.register
class RankingModel(keras.Model):
    """The ranker: preprocessor, optional backbone, one tower and logit per task.

        inputs  = concat(preprocessor(continuous, binary), large_embeddings(...),
                         small_embeddings(discrete), layer_norm(user_embedding),
                         layer_norm(user_eng_embedding), layer_norm(author_embedding),
                         position_debias(discrete or the feature it names))
        shared  = inputs                              share_none
                | backbone(inputs)                    share_all
                | concat(inputs, backbone(inputs))    share_partial
        logit_t = affine_t(tower_t(shared));  p_t = sigmoid(logit_t)
        calibrated_t = p_t * r_t / (1 - p_t + r_t * p_t)
        score   = sum_t score_weights_t * calibrated_t

    Called with `calibrators`, calibrated_t is what the task's map makes of its log
    odds, if it has one; `recap_tf.model.scorer.CalibratedRanker` always calls so.

    A backbone may make one vector for all tasks or, as `MMoE` and `PLE` do, a list of
    one for each task. Backbones and towers see the concatenation or, if they ask for
    it, its parts by name; see `recap_tf.model.fields`.

    Call: {"continuous": (batch, C), and any of "binary" (batch, B), "discrete"
    (batch, D), "user_embedding", "user_eng_embedding", "author_embedding" (batch, E),
    and what `large_embeddings` looks up}
    -> {"logits", "probabilities", "calibrated_probabilities"}, each (batch, tasks)
    float32; "score", (batch,) float32, if there are score_weights; and on request
    "backbone", what the towers saw. Features that the model does not know are ignored.
    `return_task_logits=True` adds "task_logits", a list of the logits' columns,
    (batch, 1) each: gradients of one stay in its own tower.

    Args:
        tasks: names, each once, in the order of the outputs' columns.
        preprocessor: makes the layer for continuous and binary columns; none for data
            that has neither.
        tower: makes a task's tower; its output is (batch, 1).
        towers: task -> another tower for it.
        sharing: what the towers see.
        backbone: makes the shared layer; required by share_all and share_partial, an
            error with share_none.
        large_embeddings: makes the tables of sparse features; called with all features.
        small_embeddings: makes the tables for `discrete`; none ignores that feature.
        position_debias: makes the layer that embeds the shown position.
        affine_map: (scale, bias) that each task's learned affine map of its logit
            starts from; none for no map. A bias near the log odds of the labels spares
            the backbone from learning it.
        affine_maps: task -> another start for its map.
        calibration_ratios: task -> r; 1 where not listed.
        score_weights: task -> what its probability counts for in the final score, 0
            where not listed; none at all for no score.
        output_backbone: also return what the towers saw.

    >>> import tensorflow as tf
    >>> from recap_tf.model.mlp import MLP
    >>> from recap_tf.model.preprocessors import Log1pAbs
    >>> from recap_tf.model.ranking_model import RankingModel
    >>> model = RankingModel(
    ...     tasks=["like", "reply"],
    ...     preprocessor=Log1pAbs(),
    ...     backbone=MLP([16]),
    ...     tower=lambda: MLP([8, 1]),
    ... )
    >>> outputs = model({"continuous": tf.ones([3, 5])})
    >>> {name: tuple(tensor.shape) for name, tensor in outputs.items()}
    {'logits': (3, 2), 'probabilities': (3, 2), 'calibrated_probabilities': (3, 2)}
    """

    def __init__(
        self,
        tasks: Sequence[str],
        preprocessor: LayerOrFactory | None,
        tower: Callable[[], keras.layers.Layer],
        towers: Mapping[str, LayerOrFactory] = {},
        sharing: Sharing = "share_all",
        backbone: LayerOrFactory | None = None,
        large_embeddings: LayerOrFactory | None = None,
        small_embeddings: LayerOrFactory | None = None,
        position_debias: LayerOrFactory | None = None,
        affine_map: tuple[float, float] | None = None,
        affine_maps: Mapping[str, tuple[float, float]] = {},
        calibration_ratios: Mapping[str, float] = {},
        score_weights: Mapping[str, float] = {},
        output_backbone: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_tasks(tasks)
        for setting, named in (
            ("towers", towers),
            ("affine_maps", affine_maps),
            ("calibration_ratios", calibration_ratios),
        ):
            check_known(f"RankingModel.{setting}", named, tasks)
        score.check_score_weights("RankingModel.score_weights", score_weights, tasks)
        if (backbone is None) != (sharing == "share_none"):
            raise ValueError(
                "RankingModel.backbone must be given with share_all and "
                "share_partial, and not with share_none. Received: sharing="
                f"{sharing!r} {'without' if backbone is None else 'with'} a backbone"
            )
        self.tasks = list(tasks)
        self.sharing = sharing
        self.output_backbone = output_backbone
        self.calibration_ratios = {
            task: float(calibration_ratios.get(task, 1.0)) for task in tasks
        }
        self.score_weights = (
            {task: float(score_weights.get(task, 0.0)) for task in tasks}
            if score_weights
            else {}
        )
        self.preprocessor = make_layer(preprocessor)
        self.large_embeddings = make_layer(large_embeddings)
        self.small_embeddings = make_layer(small_embeddings)
        self.position_debias = make_layer(position_debias)
        if position_debias is not None:
            debias = self.position_debias
            self.check_positions_are_hidden(
                debias.feature, debias.position_feature_index
            )
        self.embedding_norms = {
            name: keras.layers.LayerNormalization(
                epsilon=1e-5, dtype="float32", name=f"{name}_layer_norm"
            )
            for name in STORED_EMBEDDINGS
        }
        backbone = make_layer(backbone)
        if isinstance(backbone, PerTaskBackbone):
            backbone = backbone.for_tasks(len(tasks))
        self.backbone = backbone
        self.towers = {
            identifier(task): make_layer(towers.get(task, tower)) for task in tasks
        }
        starts = {task: affine_maps.get(task, affine_map) for task in tasks}
        self.affine_maps = {
            identifier(task): AffineMap(*start)
            for task, start in starts.items()
            if start is not None
        }

    @property
    def calibrators(self) -> Calibrators | None:
        """None: a model has no post-hoc calibrators, a `CalibratedRanker` has."""
        return None

    def call(
        self,
        inputs,
        training=None,
        return_task_logits: bool = False,
        calibrators: Calibrators | None = None,
    ):
        seen = self._towers_inputs(self._fields(inputs, training), training)
        task_logits = [
            self._logit(task, fields, training)
            for task, fields in zip(self.tasks, seen, strict=True)
        ]
        logits = tf.concat(task_logits, axis=-1)
        probabilities = tf.sigmoid(logits)
        calibrated = self._calibrated(logits, probabilities, calibrators)
        outputs = {
            "logits": logits,
            "probabilities": probabilities,
            "calibrated_probabilities": calibrated,
        }
        if return_task_logits:
            outputs["task_logits"] = task_logits
        if self.score_weights:
            weights = [self.score_weights[task] for task in self.tasks]
            outputs["score"] = score.weighted_score(
                calibrated, tf.constant(weights, tf.float32)
            )
        if self.output_backbone:
            different = list(dict.fromkeys(seen))
            flat = tf.concat([fields.flat for fields in different], axis=-1)
            outputs["backbone"] = tf.cast(flat, tf.float32)
        return outputs

    def _calibrated(
        self,
        logits: tf.Tensor,
        probabilities: tf.Tensor,
        calibrators: Calibrators | None,
    ) -> tf.Tensor:
        unsampled = sampling.undo_sampling(probabilities, self._ratios())
        if calibrators is None:
            return unsampled
        return calibrators(self.tasks, self.log_odds(logits), unsampled)

    def log_odds(self, logits: tf.Tensor) -> tf.Tensor:
        """The log odds (batch, tasks) with the sampling rates undone.

        Calibrators take them and are fitted on them.
        """
        return sampling.unsampled_log_odds(logits, self._ratios())

    def _ratios(self) -> tf.Tensor:
        ratios = [self.calibration_ratios[task] for task in self.tasks]
        return tf.constant(ratios, tf.float32)

    def _fields(self, inputs, training) -> Fields:
        dense = {
            name: inputs[name] for name in ("continuous", "binary") if name in inputs
        }
        if (self.preprocessor is None) != ("continuous" not in dense):
            raise ValueError(
                "RankingModel.preprocessor must be given if and only if there is a "
                f"feature `continuous`. Features: {sorted(inputs)}."
            )
        parts = {}
        if self.preprocessor is not None:
            parts[DENSE] = self.preprocessor(dense, training=training)
        vectors = {name: inputs[name] for name in STORED_EMBEDDINGS if name in inputs}
        if self.large_embeddings is not None:
            for name, vector in self.large_embeddings(
                inputs, training=training
            ).items():
                (vectors if name in STORED_EMBEDDINGS else parts)[name] = vector
        if self.small_embeddings is not None:
            discrete = self._feature("small_embeddings", "discrete", inputs)
            small = self.small_embeddings(discrete, per_table=True, training=training)
            parts |= {f"small/{name}": vector for name, vector in small.items()}
        for name, norm in self.embedding_norms.items():
            if name in vectors:
                parts[name] = norm(tf.cast(vectors[name], tf.float32))
        if self.position_debias is not None:
            name = self.position_debias.feature
            positions = self._feature("position_debias", name, inputs)
            parts["position"] = self.position_debias(positions, training=training)
        return Fields({name: tf.cast(part, tf.float32) for name, part in parts.items()})

    def _feature(self, setting: str, name: str, inputs) -> tf.Tensor:
        if name not in inputs:
            raise ValueError(
                f"RankingModel.{setting} looks up `{name}`, which is not "
                f"among the features: {sorted(inputs)}."
            )
        return inputs[name]

    def check_positions_are_hidden(self, feature: str, column: int) -> None:
        """Raises ValueError if a table reads the positions; see `position_debias`."""
        check_positions_are_hidden(
            feature,
            column,
            getattr(self.large_embeddings, "tables", {}),
            getattr(self.small_embeddings, "tables", ()),
        )

    def _towers_inputs(self, fields: Fields, training) -> list[Fields]:
        """The input of each task's tower; the same object where it is the same."""
        if self.backbone is None:
            return [fields] * len(self.tasks)
        shared = apply(self.backbone, fields, training)
        per_task = shared if isinstance(shared, (list, tuple)) else [shared]
        if self.sharing == "share_partial":
            seen = [fields.with_shared(vector) for vector in per_task]
        else:
            seen = [Fields({SHARED: vector}) for vector in per_task]
        return seen if len(seen) > 1 else seen * len(self.tasks)

    def _logit(self, task: str, fields: Fields, training) -> tf.Tensor:
        name = identifier(task)
        logit = tf.cast(apply(self.towers[name], fields, training), tf.float32)
        if logit.shape[-1] != 1:
            raise ValueError(
                f"The tower of task {task!r} must end in 1 unit. Received: "
                f"{logit.shape[-1]}"
            )
        return self.affine_maps[name](logit) if name in self.affine_maps else logit

    def parameter_groups(self) -> dict[str, list[tf.Variable]]:
        """The trainable weights by group.

        Returns:
            task -> those of its tower and affine map; "backbone" -> all others but
            large tables, which have optimizers of their own.
        """
        groups: dict[str, list[tf.Variable]] = {BACKBONE: []}
        elsewhere = set()
        for task in self.tasks:
            name = identifier(task)
            groups[task] = list(self.towers[name].trainable_weights)
            if name in self.affine_maps:
                groups[task] += self.affine_maps[name].trainable_weights
            elsewhere.update(weight.ref() for weight in groups[task])
        if self.large_embeddings is not None:
            large = self.large_embeddings.trainable_weights
            elsewhere.update(weight.ref() for weight in large)
        groups[BACKBONE] = [
            weight for weight in self.trainable_weights if weight.ref() not in elsewhere
        ]
        return groups


def create_ranking_model(
    model: Callable[..., RankingModel],
    tasks: Sequence[str],
    feature_specs: Mapping[str, FeatureSpec],
    calibration_ratios: Mapping[str, float] = {},
    score_weights: Mapping[str, float] = {},
) -> RankingModel:
    """Makes a ranking model with all its weights.

    Args:
        model: `RankingModel` with its settings bound, as a config hands it over.
        feature_specs: feature -> its (batch, ...) spec, see
            `record_batches.feature_specs`.
        tasks, calibration_ratios, score_weights: see `RankingModel`.
    """
    ranking_model = model(
        tasks=tasks, calibration_ratios=calibration_ratios, score_weights=score_weights
    )
    # One pass over a row of zeros makes the weights. Within a function, nothing of
    # it is computed.
    scored = tf.function(lambda features: ranking_model(features, training=False))
    scored.get_concrete_function(
        {
            name: type(spec)([1, *spec.shape[1:]], spec.dtype)
            for name, spec in feature_specs.items()
        }
    )
    return ranking_model
