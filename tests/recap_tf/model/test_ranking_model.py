"""The whole ranking model, against the reference and in its shapes."""

import math

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from recap_tf.core.optimizers.grouped import Adam, grouped_optimizer
from recap_tf.core.optimizers.learning_rate_schedules import LinearRampToConstant
from recap_tf.data import sampling
from recap_tf.data.tasks import identifier, task_name
from recap_tf.losses.multi_task_loss import MultiTaskLoss
from recap_tf.model.mask_net import MaskBlock, MaskNet
from recap_tf.model.mlp import MLP
from recap_tf.model.preprocessors import DoubleNormLog, Log1pAbs
from recap_tf.model.ranking_model import RankingModel, create_ranking_model
from recap_tf.model.small_embeddings import SmallEmbeddings


def _mlp(arrays, prefix, **settings) -> MLP:
    names = sorted(n for n in arrays if n.startswith(f"{prefix}dense_"))
    return MLP([len(arrays[n]) for n in names if n.endswith(".bias")], **settings)


def _mask_net(arrays, prefix, **mlp_settings) -> MaskNet:
    blocks = sorted(
        {
            n[len(prefix) :].split(".")[0]
            for n in arrays
            if n.startswith(f"{prefix}mask_block")
        }
    )
    return MaskNet(
        [
            MaskBlock(
                output_size=len(arrays[f"{prefix}{block}.hidden_dense.bias"]),
                aggregation_size=len(arrays[f"{prefix}{block}.mask_dense_0.bias"]),
                input_layer_norm=f"{prefix}{block}.input_layer_norm.gamma" in arrays,
            )
            for block in blocks
        ],
        _mlp(arrays, f"{prefix}mlp.", **mlp_settings),
    )


def _tower(arrays, prefix):
    if any(name.startswith(f"{prefix}mask_block") for name in arrays):
        return _mask_net(arrays, prefix)
    return _mlp(arrays, prefix, batch_norm={"affine": False, "momentum": 0.9})


def _golden_model(arrays, weights, sharing) -> RankingModel:
    tasks = [str(task) for task in arrays["task_names"]]
    has_backbone = sharing != "share_none"
    return RankingModel(
        tasks,
        preprocessor=DoubleNormLog(layer_norm_epsilon=0.0),
        tower=None,
        towers={task: _tower(arrays, f"{weights}/tower[{task}].") for task in tasks},
        sharing=sharing,
        backbone=_mask_net(arrays, f"{weights}/backbone.", final_layer_activation=True)
        if has_backbone
        else None,
        affine_maps={
            task: (1.0, 0.0)
            for task in tasks
            if f"{weights}/affine_map[{task}].bias" in arrays
        },
        calibration_ratios={
            task: float(arrays[f"{weights}/calibrator[{task}].ratio"]) for task in tasks
        },
        output_backbone=True,
    )


def _inputs(arrays, prefix, row=...) -> dict[str, np.ndarray]:
    names = [name for name in arrays if name.startswith(prefix)]
    return {
        name.removeprefix(prefix).removesuffix("_features"): arrays[name][row]
        for name in names
        if not name.endswith(("labels", "example_weights"))
    }


@pytest.mark.parametrize("sharing", ["share_all", "share_partial", "share_none"])
def test_golden_model(golden, assign_weights, reference_weights, sharing):
    arrays = golden(f"model_{sharing}")
    model = _golden_model(arrays, "weight", sharing)
    inputs = _inputs(arrays, "eval/input/")
    model(inputs)
    assign_weights(model, arrays, "weight/")
    tolerances = {
        "logits": 2e-5,
        "probabilities": 3e-6,
        "calibrated_probabilities": 1e-5,
        "backbone": 2e-5,
    }
    outputs = model(inputs, training=False)
    assert set(outputs) == set(tolerances)
    for name, atol in tolerances.items():
        np.testing.assert_allclose(
            outputs[name], arrays[f"eval/output/{name}"], atol=atol, err_msg=name
        )

    ours = reference_weights(model)
    pos_weights = dict(zip(model.tasks, arrays["pos_weights"], strict=True))
    loss_of = MultiTaskLoss(pos_weights=pos_weights)
    with tf.GradientTape() as tape:
        outputs = model(_inputs(arrays, "train/input/"), training=True)
        loss, task_losses = loss_of(
            model.tasks,
            arrays["train/labels"],
            outputs["logits"],
            arrays["train/example_weights"],
        )
    for name, atol in tolerances.items():
        np.testing.assert_allclose(
            outputs[name], arrays[f"train/output/{name}"], atol=atol, err_msg=name
        )
    np.testing.assert_allclose(loss, arrays["train/loss"], atol=3e-6)
    for task, value in zip(model.tasks, task_losses, strict=True):
        np.testing.assert_allclose(value, arrays[f"train/loss/{task}"], atol=3e-6)
    trained = {name: v for name, v in ours.items() if f"train/grad/{name}" in arrays}
    assert len(trained) == len(model.trainable_weights)
    for name, gradient in tape.gradient(loss, trained).items():
        expected = arrays[f"train/grad/{name}"]
        expected = expected.T if name.endswith("weight_out_in") else expected
        np.testing.assert_allclose(
            gradient, expected.reshape(gradient.shape), atol=5e-6, err_msg=name
        )
    for name in arrays:
        if name.startswith("train/after/"):
            np.testing.assert_allclose(
                ours[name.removeprefix("train/after/")], arrays[name], atol=1e-5
            )


def test_golden_training_trajectory(golden, assign_weights, reference_weights):
    arrays = golden("training_trajectory")
    model = _golden_model(arrays, "initial", "share_all")
    model(_inputs(arrays, "batches/", 0))
    assign_weights(model, arrays, "initial/")
    ours = reference_weights(model)
    groups = [str(name) for name in arrays["learning_rate_group_names"]]
    schedules = {
        group: LinearRampToConstant(float(rate), int(ramp))
        for group, (rate, ramp) in zip(
            groups, arrays["lr_max_and_ramp_steps"], strict=True
        )
    }
    optimizer = grouped_optimizer(
        model.parameter_groups(),
        schedules,
        lambda learning_rate: Adam(learning_rate, beta_1=0.95, epsilon=1e-7),
    )
    pos_weights = dict(zip(model.tasks, arrays["pos_weights"], strict=True))
    loss_of = MultiTaskLoss(pos_weights=pos_weights)

    @tf.function
    def step(features, targets, weights):
        with tf.GradientTape() as tape:
            logits = model(features, training=True)["logits"]
            loss, task_losses = loss_of(model.tasks, targets, logits, weights)
        gradients = tape.gradient(loss, model.trainable_weights)
        optimizer.apply_gradients(zip(gradients, model.trainable_weights, strict=True))
        return loss, task_losses, gradients

    def compare(prefix):
        for name in arrays:
            if not name.startswith(prefix):
                continue
            own = name.removeprefix(prefix)
            # Their exact gradient is 0: Adam blows up its rounding.
            feeds_batch_norm = own.startswith("tower[") and own.endswith(
                ("dense_0.bias", "dense_1.bias")
            )
            atol = 3e-5
            if feeds_batch_norm:
                atol = 1e-2
            elif own.startswith("tower[") and own.endswith("running_mean"):
                atol = 5e-3
            expected = arrays[name].T if own.endswith("weight_out_in") else arrays[name]
            np.testing.assert_allclose(
                np.reshape(ours[own], expected.shape), expected, atol=atol, err_msg=name
            )

    for k in range(len(arrays["loss"])):
        for group, schedule in schedules.items():
            np.testing.assert_allclose(
                schedule(k),
                arrays["learning_rate_used"][k, groups.index(group)],
                rtol=1e-6,
            )
        loss, task_losses, gradients = step(
            _inputs(arrays, "batches/", k),
            arrays["batches/labels"][k],
            arrays["batches/example_weights"][k],
        )
        np.testing.assert_allclose(loss, arrays["loss"][k], atol=2e-5)
        np.testing.assert_allclose(task_losses, arrays["task_losses"][k], atol=2e-5)
        if k == 0:
            by_weight = {
                weight.ref(): gradient
                for weight, gradient in zip(
                    model.trainable_weights, gradients, strict=True
                )
            }
            for name in arrays:
                if name.startswith("gradient_at_step_0/"):
                    own = name.removeprefix("gradient_at_step_0/")
                    expected = arrays[name]
                    expected = expected.T if own.endswith("weight_out_in") else expected
                    np.testing.assert_allclose(
                        np.reshape(by_weight[ours[own].ref()], expected.shape),
                        expected,
                        atol=5e-6,
                        err_msg=name,
                    )
        if k == 1:
            compare("after_2_steps/")
    compare("final/")
    outputs = model(_inputs(arrays, "batches/", 0), training=False)
    for name, atol in {
        "logits": 1e-2,
        "probabilities": 3e-3,
        "calibrated_probabilities": 3e-3,
    }.items():
        np.testing.assert_allclose(
            outputs[name], arrays[f"eval_on_batch_0/{name}"], atol=atol
        )


def test_golden_numeric_calibration(golden):
    arrays = golden("numeric_calibration")
    tasks = [n.removesuffix("/calibrated") for n in arrays if n.endswith("/calibrated")]
    assert len(tasks) > 1
    rates = {
        task: (
            float(arrays[f"{task}/pos_downsampling_rate"]),
            float(arrays[f"{task}/neg_downsampling_rate"]),
        )
        for task in tasks
    }
    ratios = sampling.sampling_ratios(tasks, rates)
    for task in tasks:
        np.testing.assert_allclose(ratios[task], arrays[f"{task}/ratio"], rtol=1e-6)
        unsampled = sampling.undo_sampling(
            tf.constant(arrays["probabilities"]), tf.constant(arrays[f"{task}/ratio"])
        )
        np.testing.assert_allclose(
            unsampled, arrays[f"{task}/calibrated"], rtol=1e-5, err_msg=task
        )


SPECS = {
    "continuous": tf.TensorSpec([None, 3], tf.float32),
    "discrete": tf.TensorSpec([None, 2], tf.int64),
    "user_embedding": tf.TensorSpec([None, 4], tf.float32),
}
TABLES = {"city": {"column": 1, "num_embeddings": 5, "embedding_dim": 2}}


def _small_model(tasks=("a.like", "a.reply"), **settings):
    settings = {
        "preprocessor": Log1pAbs,
        "tower": lambda: MLP([3, 1]),
        "sharing": "share_none",
    } | settings
    return create_ranking_model(
        lambda **kwargs: RankingModel(**kwargs, **settings), tasks, SPECS
    )


def _rows(n=2) -> dict[str, np.ndarray]:
    return {
        "continuous": np.random.rand(n, 3).astype(np.float32),
        "discrete": np.ones((n, 2), np.int64),
        "user_embedding": np.random.rand(n, 4).astype(np.float32),
    }


def test_all_weights_exist_before_the_first_batch():
    model = _small_model(small_embeddings=lambda: SmallEmbeddings(tables=TABLES))
    count = len(model.weights)
    model(_rows())
    assert count == len(model.weights) > 0


@pytest.mark.parametrize("architecture", ["mlp", "mask_net"])
@pytest.mark.parametrize("sharing", ["share_all", "share_partial", "share_none"])
def test_any_architecture_as_backbone_and_tower(sharing, architecture):
    layers = {
        "mlp": lambda last: MLP([4, last]),
        "mask_net": lambda last: MaskNet([MaskBlock(4, 2)] * 1, MLP([last])),
    }
    make = layers[architecture]
    backbone = None if sharing == "share_none" else lambda: make(6)
    model = _small_model(
        sharing=sharing, backbone=backbone, tower=lambda: make(1), output_backbone=True
    )
    outputs = model(_rows(5))
    inputs = 3 + 4
    seen = {
        "share_none": inputs,
        "share_all": 6,
        "share_partial": inputs + 6,
    }[sharing]
    assert outputs["backbone"].shape == (5, seen)
    assert outputs["logits"].shape == (5, 2)


def test_parameter_groups_hold_every_weight_once():
    model = _small_model(
        sharing="share_all", backbone=lambda: MLP([4]), affine_maps={"a.like": (2, 1)}
    )
    groups = model.parameter_groups()
    assert set(groups) == {"backbone", "a.like", "a.reply"}
    assert len(groups["a.like"]) == len(groups["a.reply"]) + 2
    refs = [weight.ref() for group in groups.values() for weight in group]
    assert len(refs) == len(set(refs)) == len(model.trainable_weights)


def test_probabilities_by_hand():
    model = _small_model(
        tasks=["like"], tower=lambda: MLP([1]), affine_maps={"like": (2.0, 1.0)}
    )
    model.calibration_ratios["like"] = 0.25
    for weight in model.towers["like"].weights:
        weight.assign(tf.zeros_like(weight))
    outputs = model(_rows(1))
    p = 1 / (1 + math.exp(-1))
    np.testing.assert_allclose(outputs["logits"], [[1.0]])
    np.testing.assert_allclose(outputs["probabilities"], [[p]], rtol=1e-6)
    np.testing.assert_allclose(
        outputs["calibrated_probabilities"],
        [[p * 0.25 / (1 - p + 0.25 * p)]],
        rtol=1e-6,
    )


def test_affine_maps_of_all_tasks_and_of_one():
    model = _small_model(affine_map=(1.0, -2.0), affine_maps={"a.reply": (3.0, 0.5)})
    starts = {
        n: (m.scale.numpy(), m.bias.numpy()) for n, m in model.affine_maps.items()
    }
    assert starts == {"a__like": (1.0, -2.0), "a__reply": (3.0, 0.5)}


def test_ids_alone_are_enough():
    specs = {"discrete": SPECS["discrete"]}
    model = create_ranking_model(
        lambda **kwargs: RankingModel(
            **kwargs,
            preprocessor=None,
            small_embeddings=lambda: SmallEmbeddings(tables=TABLES),
            sharing="share_none",
            tower=lambda: MLP([1]),
        ),
        ["like"],
        specs,
    )
    assert model({"discrete": np.zeros((3, 2), int)})["logits"].shape == (3, 1)


def test_ids_choose_their_row():
    layer = SmallEmbeddings(tables=TABLES)
    layer(np.zeros((1, 2), np.int64))
    layer.rows["city"].assign(np.arange(10).reshape(5, 2))
    np.testing.assert_array_equal(layer(np.array([[9, 3], [9, 0]])), [[6, 7], [0, 1]])


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: _small_model(sharing="share_all"), "RankingModel.backbone must be"),
        (
            lambda: _small_model(backbone=lambda: MLP([1])),
            "sharing='share_none' with a backbone",
        ),
        (
            lambda: _small_model(preprocessor=None),
            "RankingModel.preprocessor must be given if and only if",
        ),
        (lambda: _small_model(tasks=["a", "a"]), r"names \['a'\] more than once"),
        (lambda: _small_model(tasks=[]), "at least one task"),
        (
            lambda: _small_model(towers={"a.lik": MLP([1])}),
            r"RankingModel.towers names the task 'a.lik', which is not in",
        ),
        (
            lambda: _small_model(tower=lambda: MLP([2])),
            "tower of task 'a.like' must end in 1 unit. Received: 2",
        ),
        (
            lambda: SmallEmbeddings(tables=TABLES)(np.zeros((1, 1), np.int64)),
            "'city' reads column 1 of `discrete`, which has 1",
        ),
        (
            lambda: SmallEmbeddings(columns="nowhere.json"),
            "SmallEmbeddings.columns = 'nowhere.json' does not exist",
        ),
    ],
    ids=[
        "no backbone",
        "needless backbone",
        "no preprocessor",
        "task twice",
        "no task",
        "unknown task",
        "wide tower",
        "no column",
        "no file",
    ],
)
def test_bad_settings(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_embeddings_are_usable_alone_saved_and_loaded(tmp_path):
    inputs = keras.Input((2,), dtype="int64")
    model = keras.Model(inputs, SmallEmbeddings(tables=TABLES)(inputs))
    ids = np.array([[0, 3], [1, 4]])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(model(ids), loaded(ids))


@pytest.mark.parametrize("bad", [5, -1])
def test_an_id_outside_its_table(bad):
    layer = SmallEmbeddings(tables=TABLES)
    with pytest.raises(tf.errors.InvalidArgumentError, match="'city' has 5 rows"):
        layer(np.array([[0, bad]]))


def test_task_names_without_dots_and_back():
    name = "recap.engagement.is_favorited"
    assert identifier(name) == "recap__engagement__is_favorited"
    assert task_name(identifier(name)) == name
