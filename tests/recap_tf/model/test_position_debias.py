"""The position layer by hand, and that it takes a planted position bias away."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from sklearn.metrics import roc_auc_score

from recap_tf import settings
from recap_tf.core.config import gin_config
from recap_tf.data.schema import Feature, write_schema
from recap_tf.model.mlp import MLP
from recap_tf.model.position_debias import PositionDebias
from recap_tf.model.preprocessors import Log1pAbs
from recap_tf.model.ranking_model import RankingModel, create_ranking_model
from recap_tf.model.small_embeddings import SmallEmbeddings
from recap_tf.training.building import build_model

PLACES = 20


def _layer(**settings) -> PositionDebias:
    """Positions in column 1; row k of the table is [k, 10 k]."""
    settings = {"max_position": 3, "embedding_dim": 2} | settings
    layer = PositionDebias(position_feature_index=1, **settings)
    layer.build((None, 2))
    layer.table.assign([[k, 10.0 * k] for k in range(settings["max_position"] + 1)])
    return layer


def _discrete(positions) -> tf.Tensor:
    return tf.stack([tf.zeros_like(positions), tf.constant(positions)], axis=1)


def test_training_looks_positions_up_and_clips_them():
    layer = _layer(drop_probability=0.0)
    vectors = layer(_discrete([0, 2, 3, 300]), training=True)
    np.testing.assert_array_equal(vectors, [[0, 0], [2, 20], [3, 30], [3, 30]])


def test_a_feature_of_one_column():
    layer = PositionDebias(feature="at", max_position=3, drop_probability=0.0)
    vectors = layer(tf.constant([1, 2]), training=True)
    np.testing.assert_array_equal(vectors, layer.table.numpy()[[1, 2]])
    assert vectors.shape == (2, 64)


def test_unknown_is_the_average_of_what_was_shown():
    layer = _layer()
    # One of each to begin with, then forty of place 3.
    np.testing.assert_allclose(layer(_discrete([0])), [[1.5, 15]])
    layer(_discrete([3] * 40), training=True)
    seen = np.array([0.999, 0.999, 0.999, 40.999])
    expected = seen @ np.arange(4) / seen.sum()
    np.testing.assert_allclose(
        layer(_discrete([0])), [[expected, 10 * expected]], rtol=1e-6
    )
    # Evaluation shows no positions; nothing is counted.
    layer(_discrete([0] * 500))
    np.testing.assert_allclose(layer.seen, seen, rtol=1e-6)


def test_hidden_positions_are_the_share_asked_for_and_change_from_call_to_call():
    layer = _layer(drop_probability=0.25)
    places = _discrete([3] * 4000)
    unknown = layer(places).numpy()[0]  # as it was before the call
    first, second = (
        np.any(layer(places, training=True) != [3.0, 30.0], axis=1) for _ in range(2)
    )
    assert first.mean() == pytest.approx(0.25, abs=0.03)
    assert np.any(first != second)
    again = _layer(drop_probability=0.25)(places, training=True).numpy()
    hidden = again[np.any(again != [3.0, 30.0], axis=1)]
    np.testing.assert_allclose(hidden, np.tile(unknown, (len(hidden), 1)), rtol=1e-6)


def test_what_is_hidden_goes_on_from_a_checkpoint(tmp_path):
    places = _discrete([1, 2, 3] * 20)
    layer = _layer()
    layer(places, training=True)
    path = tf.train.Checkpoint(layer).write(str(tmp_path / "state"))
    expected = layer(places, training=True)
    resumed = _layer()
    tf.train.Checkpoint(resumed).read(path).assert_consumed()
    np.testing.assert_array_equal(resumed(places, training=True), expected)
    np.testing.assert_array_equal(resumed(places), layer(places))


def test_usable_alone_saved_and_loaded(tmp_path):
    inputs = keras.Input((2,), dtype="int64")
    layer = PositionDebias(1, max_position=7, embedding_dim=3, drop_probability=0.2)
    model = keras.Model(inputs, layer(inputs))
    model(_discrete([5] * 10), training=True)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(_discrete([1])), model(_discrete([1])))
    assert loaded.layers[-1].get_config() == layer.get_config()


def test_training_compiles_with_xla():
    layer = _layer()
    step = tf.function(lambda x: layer(x, training=True), jit_compile=True)
    vectors = step(_discrete([3] * 64)).numpy()
    shown = np.all(vectors == [3.0, 30.0], axis=1)
    assert 0 < shown.sum() < 64
    np.testing.assert_allclose(vectors[~shown], [[1.5, 15.0]] * (~shown).sum())


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"position_feature_index": -1}, "index must be at least 0. Received: -1"),
        ({"max_position": 0}, "PositionDebias.max_position must be at least 1"),
        ({"embedding_dim": 0}, "PositionDebias.embedding_dim must be at least 1"),
        ({"drop_probability": 1.0}, r"drop_probability must be in \[0, 1\).*1.0"),
        (
            {"position_feature_index": 2},
            "position_feature_index must be below the 2 columns of `discrete`.*: 2",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        PositionDebias(**settings)(_discrete([0]))


def test_a_negative_position():
    with pytest.raises(tf.errors.InvalidArgumentError, match="negative ones in col"):
        _layer()(_discrete([0, -1]), training=True)


# --- The planted bias -----------------------------------------------------------------


def _impressions(count: int, seed: int, at_random: bool = False):
    """Requests of 20 posts, put in order by a noisy old ranker; or in no order.

    relevance = sigmoid(2 x.w - 1), clicked with chance relevance * examination,
    examination = (1 + position)^-0.7. The old ranker likes other features.

    Returns (features, labels (count, 1), relevance).
    """
    taste = np.random.default_rng(0)
    w, old = taste.normal(size=(2, 10))
    w /= np.linalg.norm(w)
    old -= 0.7 * (old @ w) * w
    old /= np.linalg.norm(old)
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count // PLACES, PLACES, 10)).astype(np.float32)
    relevance = 1 / (1 + np.exp(1 - 2 * x @ w))
    score = rng.normal(size=x.shape[:2]) + (0 if at_random else x @ old)
    position = np.argsort(np.argsort(-score, axis=1), axis=1)
    clicked = rng.random(x.shape[:2]) < relevance * (1.0 + position) ** -0.7
    features = {
        "continuous": x.reshape(-1, 10),
        "discrete": position.reshape(-1, 1).astype(np.int64),
    }
    return features, clicked.reshape(-1, 1).astype(np.float32), relevance.ravel()


def _train(impressions, position_debias) -> RankingModel:
    keras.utils.set_random_seed(3)
    features, labels, _ = impressions
    specs = {
        name: tf.TensorSpec([None, value.shape[1]], tf.as_dtype(value.dtype))
        for name, value in features.items()
    }
    model = create_ranking_model(
        lambda **kwargs: RankingModel(
            **kwargs,
            preprocessor=Log1pAbs,
            sharing="share_none",
            tower=lambda: MLP([64, 32, 1]),
            position_debias=position_debias,
        ),
        ["click"],
        specs,
    )
    optimizer = keras.optimizers.Adam(2e-3)

    @tf.function
    def step(features, labels):
        with tf.GradientTape() as tape:
            logits = model(features, training=True)["logits"]
            losses = tf.nn.sigmoid_cross_entropy_with_logits(labels, logits)
            loss = tf.reduce_mean(losses)
        weights = model.trainable_weights
        optimizer.apply_gradients(
            zip(tape.gradient(loss, weights), weights, strict=True)
        )

    batches = tf.data.Dataset.from_tensor_slices((features, labels))
    for batch in batches.shuffle(len(labels), seed=4).batch(512).repeat(8):
        step(*batch)
    return model


def _score(model, features) -> np.ndarray:
    return model(features, training=False)["probabilities"].numpy()[:, 0]


@pytest.fixture(scope="module")
def logs():
    return _impressions(40_000, seed=1)


@pytest.fixture(scope="module")
def relevance_auroc():
    """AUROC of a model's scores against draws of the true relevance."""
    features, _, relevance = _impressions(40_000, seed=2, at_random=True)
    liked = np.random.default_rng(5).random(len(relevance)) < relevance
    return lambda model: roc_auc_score(liked, _score(model, features))


def test_shown_positions_take_the_bias_out_of_the_ranking(logs, relevance_auroc):
    settings = {"max_position": PLACES - 1}
    biased = relevance_auroc(_train(logs, None))
    at_random = _impressions(40_000, seed=1, at_random=True)
    unbiased = relevance_auroc(_train(at_random, None))
    half_hidden = _train(logs, lambda: PositionDebias(**settings))
    all_shown = _train(logs, lambda: PositionDebias(drop_probability=0.0, **settings))
    gap = unbiased - biased
    assert gap > 0.02
    assert relevance_auroc(half_hidden) - biased > 0.5 * gap
    assert relevance_auroc(all_shown) - biased > 0.9 * gap
    # Nor is the level lost: an average place has about the average rate of clicks.
    features, clicked, _ = logs
    for model in (half_hidden, all_shown):
        ratio = _score(model, features).mean() / clicked.mean()
        assert ratio == pytest.approx(1.0, abs=0.25)


def test_no_position_that_is_sent_changes_a_score(logs):
    features, labels, relevance = (
        {name: value[:4000] for name, value in part.items()}
        if isinstance(part, dict)
        else part[:4000]
        for part in logs
    )
    model = _train((features, labels, relevance), PositionDebias)
    expected = _score(model, features)
    for sent in (0, 7, 10_000, -5):
        moved = features | {"discrete": np.full_like(features["discrete"], sent)}
        np.testing.assert_array_equal(_score(model, moved), expected)
    # It does matter while training.
    shown = [
        model(features | {"discrete": features["discrete"] * k}, training=True)
        for k in (0, 1)
    ]
    assert np.any(shown[0]["logits"] != shown[1]["logits"])


# --- In the model ---------------------------------------------------------------------


def _model(specs, **settings) -> RankingModel:
    settings = {"position_debias": lambda: PositionDebias(1)} | settings
    return create_ranking_model(
        lambda **kwargs: RankingModel(
            **kwargs,
            preprocessor=Log1pAbs,
            sharing="share_none",
            tower=lambda: MLP([1]),
            output_backbone=True,
            **settings,
        ),
        ["like"],
        specs,
    )


SPECS = {
    "continuous": tf.TensorSpec([None, 3], tf.float32),
    "discrete": tf.TensorSpec([None, 2], tf.int64),
    "at": tf.TensorSpec([None], tf.int64),
}


def test_the_position_comes_last_and_trains_with_the_backbone():
    model = _model(SPECS, position_debias=lambda: PositionDebias(1, embedding_dim=4))
    inputs = {
        "continuous": np.zeros((1, 3), np.float32),
        "discrete": np.zeros((1, 2), np.int64),
    }
    seen = model(inputs)["backbone"]
    assert seen.shape == (1, 3 + 4)
    average = np.mean(model.position_debias.table, axis=0)
    np.testing.assert_allclose(seen[0, 3:], average, rtol=1e-4)
    table = model.position_debias.table.ref()
    assert table in {w.ref() for w in model.parameter_groups()["backbone"]}


def test_an_extracted_feature_as_position():
    model = _model(SPECS, position_debias=lambda: PositionDebias(feature="at"))
    assert model.position_debias.table.shape == (257, 64)


TABLES = {"city": {"column": 1, "num_embeddings": 5, "embedding_dim": 2}}


@pytest.mark.parametrize(
    "settings, message",
    [
        (
            {"small_embeddings": lambda: SmallEmbeddings(tables=TABLES)},
            "table 'city' must not read column 1 of `discrete`",
        ),
        (
            {"position_debias": lambda: PositionDebias(feature="att")},
            "RankingModel.position_debias looks up `att`, which is not among",
        ),
        (
            {"position_debias": lambda: PositionDebias(feature="continuous")},
            "PositionDebias.feature must be a feature of integers.*'continuous', fl",
        ),
        (
            {"position_debias": lambda: PositionDebias(2)},
            "position_feature_index must be below the 2 columns of `discrete`",
        ),
    ],
    ids=["leak", "no feature", "floats", "no column"],
)
def test_bad_settings_of_the_model(settings, message):
    with pytest.raises(ValueError, match=message):
        _model(SPECS, **settings)


CONFIG = """
recap.ranker.tasks = ["like"]
recap.ranker.train_data = @train/Records()
recap.ranker.model = @RankingModel
recap.ranker.optimizer = @grouped_optimizer
grouped_optimizer.learning_rates = 1e-3
train/Records.files = "{here}/*.gz"
train/Records.schema = "{here}/schema.json"
train/Records.features = {"x": "continuous", "places": "discrete"}
train/Records.preprocess = [@ExtractFeatures()]
ExtractFeatures.columns = {"at": ("discrete", 1)}
RankingModel.preprocessor = @Log1pAbs
RankingModel.sharing = "share_none"
RankingModel.tower = @MLP
MLP.layer_sizes = [1]
RankingModel.position_debias = @PositionDebias
PositionDebias.feature = "at"
recap.train.steps = 1
recap.train.batch_size = 4
recap.train.save_dir = "{here}/run"
"""
SMALL = """
RankingModel.small_embeddings = @SmallEmbeddings
SmallEmbeddings.tables = {
    "city": {"column": COLUMN, "num_embeddings": 5, "embedding_dim": 2}
}
"""
LARGE = """
RankingModel.large_embeddings = @LargeEmbeddings
LargeEmbeddings.tables = [@TableSpec()]
TableSpec.name = "cities"
TableSpec.rows = 5
TableSpec.dim = 2
TableSpec.features = ["FEATURE"]
"""


def _build(folder, more: str) -> RankingModel:
    entries = [("x", "float_list", 3), ("places", "int64_list", 2)]
    write_schema(
        str(folder / "schema.json"),
        [Feature(*entry) for entry in [*entries, ("like", "int64_list", 1)]],
    )
    (folder / "ranker.gin").write_text(CONFIG + more)
    gin_config.load(str(folder / "ranker.gin"), roots=settings.ROOTS)
    return build_model(settings.Ranker())


@pytest.mark.parametrize(
    "more, message",
    [
        (
            SMALL.replace("COLUMN", "1"),
            "SmallEmbeddings' table 'city' must not read column 1 of `discrete`: it is "
            "the position that PositionDebias takes, and unknown when serving.",
        ),
        (
            LARGE.replace("FEATURE", "at"),
            "LargeEmbeddings' table 'cities' must not read feature 'at': it holds the "
            "position that PositionDebias takes, and that is unknown when serving.",
        ),
        (
            LARGE.replace("FEATURE", "discrete"),
            "LargeEmbeddings' table 'cities' must not read feature 'discrete': it",
        ),
    ],
    ids=["small", "large", "large with all columns"],
)
def test_no_table_may_read_an_extracted_position(tmp_path, more, message):
    with pytest.raises(ValueError, match=message):
        _build(tmp_path, more)


def test_a_table_may_read_other_columns_than_the_extracted_position(tmp_path):
    model = _build(tmp_path, SMALL.replace("COLUMN", "0"))
    assert model.position_debias.feature == "at"
