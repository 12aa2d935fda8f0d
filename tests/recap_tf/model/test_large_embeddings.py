"""Large tables inside the ranker: configured, trained, evaluated, exported, scored."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import tensorflow as tf

from recap_tf import evaluate, export, train
from recap_tf.core.command import UserError, user_message
from recap_tf.core.embeddings.table_spec import TableSpec
from recap_tf.core.optimizers.grouped import grouped_optimizer
from recap_tf.data.downsampling import DownsampleNegatives
from recap_tf.data.record_writer import (
    open_record_files,
    part_paths,
    serialize_examples,
)
from recap_tf.data.schema import Feature, write_schema
from recap_tf.model.large_embeddings import LargeEmbeddings
from recap_tf.model.mlp import MLP
from recap_tf.model.preprocessors import Log1pAbs
from recap_tf.model.ranking_model import RankingModel
from recap_tf.model.small_embeddings import SmallEmbeddings

ROWS = 40
CONFIG = """
recap.ranker.tasks = ["click"]
recap.ranker.train_data = @train/Records()
recap.ranker.validation_sets = [@held_out/ValidationSet()]
held_out/ValidationSet.name = "held_out"
held_out/ValidationSet.records = @held_out/Records()
Records.schema = "{here}/schema.json"
Records.features = {
    "age": "continuous", "watched": "watched", "query": "query", "topic": "topic"
}
train/Records.files = "{here}/train/*.gz"
held_out/Records.files = "{here}/held_out/*.gz"

recap.ranker.model = @RankingModel
RankingModel.preprocessor = @Log1pAbs
RankingModel.sharing = "share_none"
RankingModel.tower = @MLP
MLP.layer_sizes = [16, 1]
RankingModel.large_embeddings = @LargeEmbeddings
LargeEmbeddings.tables = [@videos/TableSpec(), @words/TableSpec()]
videos/TableSpec.name = "videos"
videos/TableSpec.rows = 40
videos/TableSpec.features = ["watched", "topic"]
videos/TableSpec.optimizer = @LazyAdam
videos/TableSpec.learning_rate = @LinearRampToConstant()
videos/TableSpec.vocabulary = "{here}/videos.parquet"
videos/TableSpec.pretrained = "{here}/videos.npz"
videos/TableSpec.log_norm = True
videos/TableSpec.l2 = 1e-4
words/TableSpec.name = "words"
words/TableSpec.rows = 64
words/TableSpec.features = ["query"]
words/TableSpec.combiner = "mean"
words/TableSpec.open_vocabulary = @OpenVocabulary()
OpenVocabulary.admit_after = 2
TableSpec.dim = 4
LinearRampToConstant.learning_rate = 0.05
LinearRampToConstant.ramp_steps = 10

recap.ranker.optimizer = @grouped_optimizer
grouped_optimizer.learning_rates = 1e-3
recap.train.batch_size = 64
recap.train.steps = 150
recap.train.log_every = 25
recap.train.evaluate_every = None
recap.train.save_dir = "{here}/run"
recap.evaluate.steps = -1
recap.export.folder = "{here}/models"
"""


def _examples(count: int, seed: int) -> dict:
    """Clicks follow which videos were watched, and nothing else."""
    rng = np.random.default_rng(seed)
    taste = np.random.default_rng(5).normal(size=ROWS)
    watched = [rng.integers(0, ROWS, rng.integers(0, 5)) for _ in range(count)]
    score = np.array([taste[ids].sum() for ids in watched])
    words = [f"w{n}" for n in range(30)]
    return {
        "age": rng.uniform(0, 9, count).astype(np.float32),
        "watched": watched,
        "topic": rng.integers(0, ROWS, count),
        "query": [
            [str(w) for w in rng.choice(words, rng.integers(0, 4))]
            for _ in range(count)
        ],
        "click": (score > 0).astype(np.int64),
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    """The config, its data, and a snapshot of zeros."""
    here = tmp_path_factory.mktemp("ranker")
    features = {"age": ("float_list", 1), "watched": ("int64_list", -1)}
    features |= {"topic": ("int64_list", 1), "query": ("bytes_list", -1)}
    features |= {"click": ("int64_list", 1)}
    write_schema(
        str(here / "schema.json"),
        [Feature(name, *kind) for name, kind in features.items()],
    )
    for name, count, seed in (("train", 4000, 1), ("held_out", 600, 2)):
        with open_record_files(part_paths(str(here / name), 2)) as output:
            output.write(serialize_examples(_examples(count, seed)))
    rows = list(range(ROWS))
    vocabulary = pa.table({"entity": rows, "row": rows[::-1]})
    pyarrow.parquet.write_table(vocabulary, here / "videos.parquet")
    np.savez(here / "videos.npz", vector=np.zeros((ROWS, 4), np.float32))
    (here / "ranker.gin").write_text(CONFIG.replace("{here}", str(here)))
    return here


@pytest.fixture(scope="module")
def trained(folder):
    """The folder after `recap_tf.train`, and what that said on stderr."""
    train.main(["--config", str(folder / "ranker.gin")])
    return folder


def test_tables_train_from_a_snapshot_and_are_evaluated(trained, capsys):
    report = json.loads((trained / "run" / "evaluation.json").read_text())
    held_out = report["sets"]["held_out"]["click"]
    assert held_out["examples"] == 600 and held_out["auroc"] > 0.9
    out = trained / "again.json"
    arguments = ["--config", str(trained / "ranker.gin"), "--json", str(out)]
    evaluate.main([*arguments, "--checkpoint", str(trained / "run")])
    assert json.loads(out.read_text()) == report


def test_norms_and_rates_are_logged(trained):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = EventAccumulator(str(trained / "run" / "tensorboard" / "train"))
    log.Reload()
    tags = log.Tags()["tensors"]
    assert "embedding_norm/videos" in tags and "embedding_norm/words" not in tags
    assert {"learning_rate/table/videos", "learning_rate/table/words"} <= set(tags)


def test_an_export_takes_padded_features_and_examples(trained):
    (version,) = (trained / "models").iterdir()
    loaded = tf.saved_model.load(str(version))
    described = json.loads((version / "assets.extra" / "ranker.json").read_text())
    assert described["features"]["watched"] == -1
    examples = _examples(20, 3)
    parsed = loaded.signatures["serve_examples"](
        examples=tf.constant(serialize_examples(examples))
    )
    lengths = {n: [len(ids) for ids in examples[n]] for n in ("watched", "query")}

    def padded(name, filler):
        rows = [[*ids, *[filler] * 6][:6] for ids in examples[name]]
        return tf.constant(rows)

    served = loaded.signatures["serving_default"]
    inputs = {
        "continuous": tf.constant(examples["age"][:, np.newaxis]),
        "topic": tf.constant(examples["topic"][:, np.newaxis]),
        # What stands behind the last id does not matter.
        "watched": tf.cast(padded("watched", 10**6), tf.int64),
        "query": padded("query", "w1"),
    } | {f"{n}_length": tf.constant(v, tf.int64) for n, v in lengths.items()}
    dense = served(**inputs)
    np.testing.assert_allclose(dense["logits"], parsed["logits"], rtol=1e-5)
    assert np.ptp(parsed["probabilities"].numpy()) > 0.3
    with pytest.raises(tf.errors.InvalidArgumentError, match="must be from 0 to the"):
        served(**inputs | {"watched_length": tf.fill([20], tf.constant(7, tf.int64))})


def test_resuming_goes_on_with_the_tables(folder, trained, capsys):
    arguments = ["--config", str(folder / "ranker.gin"), "--set"]
    train.main([*arguments, "recap.train.steps=160"])
    said = capsys.readouterr().err
    assert "Going on from" in said and "start from a snapshot" not in said


def test_exporting_a_checkpoint(trained, tmp_path):
    out = ["--out", str(tmp_path / "models"), "--checkpoint", str(trained / "run")]
    export.main(["--config", str(trained / "ranker.gin"), *out])
    assert (tmp_path / "models" / "1" / "saved_model.pb").exists()


def _fails(folder, *overrides) -> str:
    arguments = ["--config", str(folder / "ranker.gin")]
    with pytest.raises(Exception) as caught:
        train.main([*arguments, *(f"--set={value}" for value in overrides)])
    return user_message(caught.value)


def test_mistakes_end_in_one_line(folder, tmp_path):
    where = f"recap.train.save_dir='{tmp_path / 'run'}'"
    message = _fails(folder, where, "videos/TableSpec.rows=41")
    assert message.startswith("The snapshot ") and "must hold 41 vectors" in message
    message = _fails(folder, where, "videos/TableSpec.rows=39")
    assert "videos.parquet must give rows from 0 to 38. Received: 39" in message
    unlisted = [
        f"videos/TableSpec.{name}=None" for name in ("vocabulary", "pretrained")
    ]
    message = _fails(folder, where, "videos/TableSpec.rows=39", *unlisted)
    assert "Embedding table videos has rows 0 to 38; ids of feature" in message
    assert "[39" in message
    message = _fails(folder, where, "videos/TableSpec.features=['watchd']")
    assert "looks up feature 'watchd', which is not among the features" in message


MIRRORED = """
import sys
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
two = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(cpu, two)
from recap_tf import train
from recap_tf.core.command import run_command
sys.exit(run_command(lambda _: train.main(sys.argv[1:])))
"""


@pytest.mark.slow
@pytest.mark.parametrize("hashed", [True, False])
def test_mirrored(folder, tmp_path, hashed):
    overrides = [
        f"recap.train.save_dir='{tmp_path / 'run'}'",
        "recap.train.strategy='mirrored'",
        "recap.train.steps=20",
        "recap.train.log_every=10",
        "recap.export.folder=None",
        f"words/TableSpec.hashed={hashed}",
    ] + ["words/TableSpec.open_vocabulary=None"] * hashed
    arguments = ["--config", str(folder / "ranker.gin")]
    done = subprocess.run(
        [sys.executable, "-c", MIRRORED, *arguments]
        + [f"--set={value}" for value in overrides],
        capture_output=True,
        text=True,
        env=os.environ | {"TF_USE_LEGACY_KERAS": "1"},
    )
    if hashed:
        assert done.returncode == 0, done.stderr[-2000:]
        assert "held_out" in done.stdout
    else:
        assert done.returncode == 2
        last = done.stderr.strip().splitlines()[-1]
        assert last.startswith("error: TableSpec.open_vocabulary of table 'words' ")


def _tables(**settings) -> LargeEmbeddings:
    spec = TableSpec(name="users", rows=9, dim=3, features=["user_id"])
    return LargeEmbeddings([spec], **settings)


def _model(**settings) -> RankingModel:
    return RankingModel(
        ["a"], Log1pAbs, lambda: MLP([2, 1]), sharing="share_none", **settings
    )


USER = {"continuous": tf.ones([2, 1]), "user_id": tf.constant([[1], [2]])}


def test_a_table_takes_the_place_and_norm_of_a_stored_vector():
    model = _model(large_embeddings=_tables(replaces={"user_id": "user_embedding"}))
    parts = model._fields(USER, training=False).parts
    assert list(parts) == ["dense", "user_embedding"]
    np.testing.assert_allclose(
        parts["user_embedding"].numpy().mean(axis=1), [0, 0], atol=1e-6
    )
    parts = _model(large_embeddings=_tables())._fields(USER, training=False).parts
    assert list(parts) == ["dense", "large/user_id"]


def test_a_stored_vector_and_an_id_of_the_same_thing():
    model = _model(large_embeddings=_tables(replaces={"user_id": "user_embedding"}))
    message = "comes both as a stored vector and as id 'user_id' of a large table"
    with pytest.raises(ValueError, match=message):
        model(USER | {"user_embedding": tf.ones([2, 3])})
    with pytest.raises(ValueError, match="'user_embedding' is the name of a stored"):
        LargeEmbeddings(
            [TableSpec(name="users", rows=9, dim=3, features=["user_embedding"])]
        )


@pytest.mark.parametrize(
    "replaces, message",
    [
        ({"usr_id": "user_embedding"}, "names feature 'usr_id', which no table serves"),
        ({"user_id": "users"}, r"\['user_id'\] must be one of .* Received: 'users'"),
    ],
)
def test_replaces_what_is_not_there(replaces, message):
    with pytest.raises(ValueError, match=f"LargeEmbeddings.replaces.*{message}"):
        _tables(replaces=replaces)


def test_saves_and_loads_alone():
    layer = _tables(replaces={"user_id": "author_embedding"})
    again = LargeEmbeddings.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    assert set(again(USER)) == {"author_embedding"}


def test_tables_are_in_no_group_of_the_dense_optimizer():
    model = _model(large_embeddings=_tables())
    model(USER)
    groups = model.parameter_groups()
    assert sum(len(group) for group in groups.values()) == len(model.weights) - 1
    optimizer = grouped_optimizer(groups, 1e-3)
    optimizer.add_groups(model.large_embeddings.optimizers())
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(USER, training=True)["logits"])
    gradients = tape.gradient(loss, model.trainable_weights)
    optimizer.apply_gradients(zip(gradients, model.trainable_weights, strict=True))


def test_l2_of_small_tables_is_of_the_rows_looked_up():
    tables = {"a": {"column": 1, "num_embeddings": 3, "embedding_dim": 2}}
    layer = SmallEmbeddings(tables=tables, l2=0.5)
    discrete = tf.constant([[9, 0], [9, 2]])
    layer(discrete)
    layer.rows["a"].assign([[1.0, 2.0], [50.0, 60.0], [3.0, 4.0]])
    layer(discrete)
    assert layer.losses == []
    layer(discrete, training=True)
    (penalty,) = layer.losses
    assert float(penalty) == pytest.approx(0.5 * (5 + 25) / 2)
    model = _model(small_embeddings=layer)
    model({"continuous": tf.ones([2, 1]), "discrete": discrete}, training=True)
    assert len(model.losses) == 1
    assert SmallEmbeddings.from_config(layer.get_config()).l2 == 0.5
    with pytest.raises(ValueError, match=r"SmallEmbeddings.l2 must be at least 0. Rec"):
        SmallEmbeddings(tables=tables, l2=-1.0)


def test_downsampling_keeps_the_rows_of_sparse_features_together():
    ids = tf.RaggedTensor.from_row_lengths(tf.range(6), [1, 0, 3, 2]).to_sparse()
    features = {"row": tf.range(4)[:, tf.newaxis], "ids": ids}
    labels = tf.constant([[0], [0], [1], [1]])
    step = DownsampleNegatives(batch_multiplier=1, engagements=["a"])
    kept, _, _ = step((features, labels, tf.ones([4, 1])), ["a"])
    assert kept["row"][:, 0].numpy().tolist() == [2, 3, 0, 1]
    dense = tf.RaggedTensor.from_sparse(kept["ids"]).to_list()
    assert dense == [[1, 2, 3], [4, 5], [0], []]


def test_open_vocabularies_refuse_accumulated_gradients(folder):
    overrides = [
        "recap.train.gradient_accumulation=2",
        f"recap.train.save_dir={str(folder / 'never')!r}",
    ]
    arguments = [
        "--config",
        str(folder / "ranker.gin"),
        *(f"--set={o}" for o in overrides),
    ]
    message = (
        "recap.train.gradient_accumulation must be 1 with TableSpec.open_vocabulary, "
        "which table 'words' has. Received: 2"
    )
    with pytest.raises(ValueError, match=message):
        train.main(arguments)


def test_another_vocabulary_than_the_one_trained_with(trained):
    shuffled = str(trained / "shuffled.parquet")
    rows = list(range(ROWS))
    pyarrow.parquet.write_table(pa.table({"entity": rows, "row": rows}), shuffled)
    arguments = ["--config", str(trained / "ranker.gin")]
    arguments += [f"--set=videos/TableSpec.vocabulary={shuffled!r}"]
    message = f"another vocabulary of table 'videos': with {shuffled}"
    with pytest.raises(UserError, match=message):
        evaluate.main([*arguments, "--checkpoint", str(trained / "run")])
