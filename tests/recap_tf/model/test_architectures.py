"""Every architecture as backbone and tower, in every form of sharing."""

import json
import pathlib
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from recap_tf import settings
from recap_tf.core.config import gin_config
from recap_tf.model.dcn import DCN
from recap_tf.model.dlrm import DLRM
from recap_tf.model.mask_net import MaskBlock, MaskNet
from recap_tf.model.mlp import MLP
from recap_tf.model.mmoe import MMoE
from recap_tf.model.ple import CGC, PLE
from recap_tf.model.preprocessors import Log1pAbs
from recap_tf.model.ranking_model import RankingModel, create_ranking_model
from recap_tf.model.small_embeddings import SmallEmbeddings

CONFIGS = pathlib.Path(__file__).parents[3] / "configs"
VARIANTS = sorted(path.stem for path in (CONFIGS / "architectures").glob("*.gin"))
TASKS = ["a.like", "a.reply"]
SPECS = {
    "continuous": tf.TensorSpec([None, 3], tf.float32),
    "discrete": tf.TensorSpec([None, 2], tf.int64),
    "user_embedding": tf.TensorSpec([None, 4], tf.float32),
}
TABLES = {
    "city": {"column": 0, "num_embeddings": 6, "embedding_dim": 3},
    "topic": {"column": 1, "num_embeddings": 6, "embedding_dim": 2},
}


def _mask_net(last: int) -> MaskNet:
    return MaskNet([lambda: MaskBlock(4, 2)] * 2, lambda: MLP([last]))


def _dlrm(last: int) -> DLRM:
    # Two dense vectors, so that a tower above a backbone finds a pair too.
    return DLRM(3, lambda: MLP([8, last]), lambda: MLP([8, 6]), dense_vectors=2)


ARCHITECTURES = {
    "mlp": lambda last: MLP([8, last]),
    "mask_net": _mask_net,
    "dcn": lambda last: DCN(2, output_mlp=lambda: MLP([last])),
    "dlrm": _dlrm,
}


def _mmoe(make) -> MMoE:
    return MMoE([lambda: make(6)] * 2)


def _ple(make) -> PLE:
    def level():
        return CGC([lambda: make(6)], [lambda: make(6)])

    return PLE([level, level])


MIXTURES = {"mmoe": _mmoe, "ple": _ple}


def _backbone(name: str) -> Callable[[], keras.layers.Layer]:
    if name in MIXTURES:
        return lambda: MIXTURES[name](_dlrm)
    return lambda: ARCHITECTURES[name](6)


def _model(tower, sharing, backbone=None) -> RankingModel:
    return create_ranking_model(
        lambda **kwargs: RankingModel(
            **kwargs,
            preprocessor=Log1pAbs,
            small_embeddings=lambda: SmallEmbeddings(tables=TABLES),
            tower=tower,
            sharing=sharing,
            backbone=backbone,
        ),
        TASKS,
        SPECS,
    )


def _rows(n: int) -> dict[str, tf.Tensor]:
    return {
        "continuous": tf.random.normal([n, 3]),
        "discrete": tf.random.uniform([n, 2], maxval=6, dtype=tf.int64),
        "user_embedding": tf.random.normal([n, 4]),
    }


def _check_training(model: RankingModel, folder) -> None:
    """Gradients reach all weights, and a checkpoint holds all of them."""
    rows = _rows(64)
    weights = model.trainable_weights
    # ReLUs that start dead would leave gradients of zero.
    for weight in weights:
        if "bias" in weight.name:
            weight.assign(tf.random.uniform(weight.shape, 0.1, 0.4))

    @tf.function
    def gradients_of(rows):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(rows, training=True)["logits"] ** 2)
        return tape.gradient(loss, weights)

    for weight, gradient in zip(weights, gradients_of(rows), strict=True):
        assert gradient is not None, weight.name
        values = tf.convert_to_tensor(gradient).numpy()
        assert np.any(values), f"the gradient of {weight.name} is zero"

    logits = model(rows)["logits"]
    assert logits.shape == (64, len(TASKS))
    path = tf.train.Checkpoint(model=model).write(str(folder / "checkpoint"))
    for weight in weights:
        weight.assign_add(tf.ones_like(weight))
    assert not np.allclose(model(rows)["logits"], logits)
    tf.train.Checkpoint(model=model).read(path).assert_existing_objects_matched()
    np.testing.assert_array_equal(model(rows)["logits"], logits)


@pytest.mark.parametrize("sharing", ["share_none", "share_all", "share_partial"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_as_backbone_and_as_tower(tmp_path, name, sharing):
    make = ARCHITECTURES[name]
    backbone = None if sharing == "share_none" else lambda: make(6)
    _check_training(_model(lambda: make(1), sharing, backbone), tmp_path)


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("mixture", MIXTURES)
def test_as_expert(tmp_path, mixture, name):
    def backbone():
        return MIXTURES[mixture](ARCHITECTURES[name])

    model = _model(lambda: MLP([4, 1]), "share_partial", backbone)
    _check_training(model, tmp_path)


@pytest.mark.parametrize("name", [*ARCHITECTURES, *MIXTURES])
def test_compiles_with_xla_and_exports(tmp_path, name):
    model = _model(lambda: MLP([1]), "share_partial", _backbone(name))
    rows = _rows(16)
    logits = model(rows)["logits"]
    compiled = tf.function(lambda x: model(x)["logits"], jit_compile=True)
    np.testing.assert_allclose(compiled(rows), logits, rtol=1e-3, atol=1e-4)

    module = tf.Module()
    module.variables_of_model = model.variables
    signature = {n: tf.TensorSpec(s.shape, s.dtype, n) for n, s in SPECS.items()}
    serve = tf.function(lambda x: model(x, training=False), input_signature=[signature])
    tf.saved_model.save(module, str(tmp_path), signatures=serve)
    served = tf.saved_model.load(str(tmp_path)).signatures["serving_default"]
    np.testing.assert_allclose(served(**rows)["logits"], logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MIXTURES)
def test_towers_see_their_own_tasks_mixture(name):
    model = _model(lambda: MLP([1]), "share_all", _backbone(name))
    rows = _rows(8)
    before = model(rows)["logits"]
    last = model.backbone.levels[-1] if name == "ple" else model.backbone
    kernel = last.gates[1].score.kernel
    kernel.assign_add(tf.random.normal(kernel.shape, stddev=3.0))
    after = model(rows)["logits"]
    np.testing.assert_array_equal(before[:, 0], after[:, 0])
    assert not np.allclose(before[:, 1], after[:, 1], atol=1e-4)


@pytest.mark.parametrize(
    "backbone, message",
    [
        (
            lambda: MMoE([MLP([2])], num_tasks=3),
            "MMoE.num_tasks must be 2, the model's tasks; leave it out. Received: 3",
        ),
        (
            lambda: PLE([CGC([lambda: MLP([2])], [MLP([2])], num_tasks=3)]),
            "CGC.num_tasks must be 2, the model's tasks; leave it out. Received: 3",
        ),
    ],
)
def test_mixtures_for_another_number_of_tasks(backbone, message):
    with pytest.raises(ValueError, match=message):
        _model(lambda: MLP([1]), "share_all", backbone)


@pytest.mark.parametrize("name", ["dcn", "dlrm", "ple"])
def test_mixed_bfloat16(name):
    backbone = _backbone(name)
    exact = _model(lambda: MLP([1]), "share_partial", backbone)
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        model = _model(lambda: MLP([1]), "share_partial", backbone)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert all(weight.dtype == tf.float32 for weight in model.trainable_weights)
    model.set_weights(exact.get_weights())
    rows = _rows(16)
    outputs = model(rows)["logits"]
    assert outputs.dtype == tf.float32
    assert not np.array_equal(outputs, exact(rows)["logits"])
    np.testing.assert_allclose(outputs, exact(rows)["logits"], atol=0.1)


def test_ids_alone_train_a_dlrm():
    model = create_ranking_model(
        lambda **kwargs: RankingModel(
            **kwargs,
            preprocessor=None,
            small_embeddings=lambda: SmallEmbeddings(tables=TABLES),
            tower=lambda: MLP([1]),
            backbone=lambda: DLRM(3, lambda: MLP([4])),
        ),
        TASKS,
        {"discrete": SPECS["discrete"]},
    )
    ids = {"discrete": _rows(5)["discrete"]}
    assert model(ids)["logits"].shape == (5, 2)


@pytest.mark.parametrize("data", ["census", "ml100k", "categorical"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_loads_over_every_data_set(tmp_path, variant, data):
    path = tmp_path / "ranker.gin"
    path.write_text(
        f'include "{CONFIGS / data}.gin"\n'
        f'include "{CONFIGS / "architectures" / variant}.gin"\n'
    )
    gin_config.load(str(path), roots=settings.ROOTS)
    assert gin_config.operative()


@pytest.mark.parametrize(
    "path",
    sorted((CONFIGS / "architectures").glob("*/*.gin")),
    ids=lambda path: f"{path.parent.name}-{path.stem}",
)
def test_variants_of_one_data_set_load_over_it(tmp_path, path):
    ranker = tmp_path / "ranker.gin"
    data = CONFIGS / f"{path.parent.name}.gin"
    ranker.write_text(f'include "{data}"\ninclude "{path}"\n')
    gin_config.load(str(ranker), roots=settings.ROOTS)
    assert gin_config.operative()


def _variant_model(folder, variant, *overrides) -> RankingModel:
    (folder / "columns.json").write_text(
        json.dumps({"discrete": [{"name": n, "size": 9} for n in ("city", "topic")]})
    )
    path = folder / "ranker.gin"
    path.write_text(
        f'include "{CONFIGS / "census.gin"}"\n'
        f'include "{CONFIGS / "architectures" / variant}.gin"\n'
        f'SmallEmbeddings.columns = "{folder / "columns.json"}"\n'
    )
    gin_config.load(str(path), overrides, roots=settings.ROOTS)
    return create_ranking_model(settings.Ranker().model, TASKS, SPECS)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_builds(tmp_path, variant):
    model = _variant_model(tmp_path, variant)
    logits = model(_rows(5), training=True)["logits"]
    assert logits.shape == (5, 2)
    expected = {
        "mlp": MLP,
        "dcn": DCN,
        "mask_net": MaskNet,
        "dlrm": DLRM,
        "share_none": type(None),
        "share_partial": MLP,
        "mmoe": MMoE,
        "ple": PLE,
    }
    assert type(model.backbone) is expected[variant]


def test_batch_norm_momentum_is_a_setting(tmp_path):
    overrides = ["MLP.batch_norm={'momentum': 0.25}", "MLP.dropout=0.0"]
    model = _variant_model(tmp_path, "mmoe", *overrides)
    statistic = model.backbone.experts[0].batch_norms[0].moving_mean
    rows = _rows(64)
    model(rows, training=True)
    once = statistic.numpy()
    assert np.any(once)
    model(rows, training=True)
    # 1 - m of the same mean each time, m of what was there.
    np.testing.assert_allclose(statistic, once * (1 + 0.25), rtol=0.02, atol=1e-4)
