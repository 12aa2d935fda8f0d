"""What a user gets wrong, as they see it: one line that names the place."""

import json
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from recap_tf import train
from recap_tf.core.command import user_message
from recap_tf.data import record_probe
from recap_tf.data.record_batches import Records
from recap_tf.data.record_writer import serialize_examples

CONFIG = """
include "recap_tf/tabular.gin"
recap.ranker.tasks = ["like"]
Records.schema = "{here}/schema.json"
Records.features = {"numbers": "continuous"}
train/Records.files = "{here}/train-*"
recap.ranker.validation_sets = []
recap.train.early_stopping = None
RankingModel.small_embeddings = None
recap.train.save_dir = "{here}/run"
recap.train.batch_size = 4
recap.train.steps = 6
"""
FEATURES = {
    "numbers": ("float_list", 2),
    "like": ("int64_list", 1),
    "reply": ("int64_list", 1),
}


def _write(path, numbers, like) -> None:
    with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
        arrays = {"numbers": np.asarray(numbers, np.float32), "like": np.asarray(like)}
        for record in serialize_examples(arrays):
            writer.write(record)


@pytest.fixture
def folder(tmp_path):
    """Two files of ten records, a schema and a config."""
    for i in range(2):
        like = (np.arange(10) % 2)[:, np.newaxis]
        _write(tmp_path / f"train-{i}", np.random.rand(10, 2), like)
    entries = [
        {"feature_name": name, "dtype": dtype, "length": length}
        for name, (dtype, length) in FEATURES.items()
    ]
    (tmp_path / "schema.json").write_text(json.dumps({"schema": entries}))
    (tmp_path / "ranker.gin").write_text(CONFIG)
    return tmp_path


def _train(folder, *overrides) -> None:
    train.main(
        ["--config", str(folder / "ranker.gin"), *(f"--set={o}" for o in overrides)]
    )


def _complaint(folder, *overrides) -> str:
    with pytest.raises(Exception) as caught:
        _train(folder, *overrides)
    line = user_message(caught.value)
    assert line is not None and "\n" not in line
    return line


@pytest.mark.parametrize(
    "override, expected",
    [
        (
            "Records.features={'nombers': 'continuous'}",
            "'nombers' is not in the schema",
        ),
        ("recap.ranker.tasks=['like', 'liek']", "'liek' is not in the schema"),
        ("MultiTaskLoss.pos_weights={'liek': 2.0}", "MultiTaskLoss"),
        ("train/Records.files='{here}/gone-*'", "gone-.* matches no file"),
        ("Records.sampling_rates={'liek': (1.0, 0.5)}", "names the task 'liek'"),
        ("recap.train.batch_siz=4", "batch_siz.*Did you mean .*batch_size"),
        ("recap.train.steps='many'", "steps"),
        ("recap.train.save_dir='{here}/schema.json/run'", r"recap.train.save_dir = .*"),
    ],
    ids=[
        "feature",
        "task",
        "unread",
        "glob",
        "rates",
        "parameter",
        "type",
        "save_dir",
    ],
)
def test_settings(folder, override, expected):
    assert re.search(expected, _complaint(folder, override))
    assert not (folder / "run").exists()


def test_a_feature_of_another_length(folder):
    _write(folder / "train-1", np.random.rand(10, 3), np.zeros((10, 1), int))
    expected = r"train-1, record 1: feature 'numbers' has 3 values, the schema says 2"
    assert re.search(expected, _complaint(folder))


def test_a_feature_of_another_type(folder):
    with tf.io.TFRecordWriter(str(folder / "train-1"), "GZIP") as writer:
        for record in serialize_examples({"numbers": np.ones((9, 2), np.int64)}):
            writer.write(record)
    assert re.search(
        r"train-1, record 1: feature 'numbers' is a int64_list", _complaint(folder)
    )


def test_a_label_of_2(folder):
    like = np.zeros((10, 1), int)
    like[7] = 2
    _write(folder / "train-0", np.random.rand(10, 2), like)
    expected = r"train-0, record 8: label 'like' must be 0 or 1. Received: 2"
    assert re.search(expected, _complaint(folder))


def test_a_file_that_is_cut_off(folder):
    path = folder / "train-1"
    path.write_bytes(path.read_bytes()[:-9])
    assert re.search(r"train-1: damaged after \d+ records", _complaint(folder))


def test_no_tf_example_at_all(folder):
    with tf.io.TFRecordWriter(str(folder / "train-1"), "GZIP") as writer:
        writer.write(b"\xff\xfe\xfd")
    assert re.search(r"train-1, record 1", _complaint(folder, "recap.train.steps=50"))


def test_an_empty_folder_of_files(folder):
    for i in range(2):
        (folder / f"train-{i}").unlink()
    assert "matches no file" in _complaint(folder)


def test_a_checkpoint_of_another_architecture(folder):
    _train(folder)
    complaint = _complaint(
        folder, "backbone/MLP.layer_sizes=[64]", "recap.train.steps=9"
    )
    assert "step-00000006 is of another architecture: " in complaint
    assert re.search(r"backbone/\S+ is \[512\] there and \[64\] here", complaint)


def test_a_loss_that_is_not_a_number_names_step_and_task(folder):
    complaint = _complaint(
        folder,
        # log1p_abs alone does not bound what the network sees.
        "RankingModel.preprocessor=@Log1pAbs",
        "RankingModel.backbone=None",
        "RankingModel.sharing='share_none'",
        "grouped_optimizer.learning_rates=1e38",
    )
    assert re.match(r"Step [2-6]: loss/like is (nan|inf)", complaint)
    assert not (folder / "run" / "checkpoints").exists()


def test_a_full_disk(folder):
    """A limit on the size of files fails writes as a full disk does."""
    limited = """
import resource, signal, sys
import recap_tf.train
from recap_tf.core.command import run_command
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
sys.exit(run_command(lambda _: recap_tf.train.main(sys.argv[1:])))
"""
    result = subprocess.run(
        [
            *(sys.executable, "-c", limited),
            *("--config", str(folder / "ranker.gin")),
            "--set=backbone/MLP.layer_sizes=[300, 300]",
        ],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 2, result.stderr
    assert re.search(r"^error: .*(File too large)", result.stderr, re.MULTILINE)
    assert not list((folder / "run" / "checkpoints").glob("step-*"))


def _records(folder, **settings) -> Records:
    return Records(
        schema=str(folder / "schema.json"),
        files=str(folder / "train-*"),
        **({"features": {"numbers": "continuous"}} | settings),
    )


def test_missing_and_non_finite_features_are_counted(folder):
    with tf.io.TFRecordWriter(str(folder / "train-1"), "GZIP") as writer:
        for record in serialize_examples({"like": np.ones((5, 1), np.int64)}):
            writer.write(record)
    _write(folder / "train-0", [[np.nan, 1]] * 3 + [[1, 1]] * 12, np.ones((15, 1), int))
    missing, not_finite = record_probe.probe(_records(folder), ["like"])
    assert "'numbers' is missing from 25.0% of 20 records" in missing
    assert "'numbers' has NaN or infinity in 3 of 20 records" in not_finite
    with pytest.raises(ValueError, match=r"missing from 25.0%.*missing_tolerance is"):
        record_probe.probe(_records(folder, missing_tolerance=0.2), ["like"])


def test_a_feature_that_no_record_holds(folder):
    with pytest.raises(ValueError, match="No record holds 'reply'"):
        record_probe.probe(_records(folder), ["like", "reply"])
    # Rare, but there: not an error.
    with tf.io.TFRecordWriter(str(folder / "train-2"), "GZIP") as writer:
        for record in serialize_examples({"reply": [None] * 99 + [np.array([1])]}):
            writer.write(record)
    tolerant = _records(folder, missing_tolerance=1.0)
    assert record_probe.probe(tolerant, ["like", "reply"])


TWO_CPUS = """
import sys
import recap_tf, tensorflow as tf
two = [tf.config.LogicalDeviceConfiguration()] * 2
[cpu] = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, two)
import recap_tf.train
from recap_tf.core.command import run_command
sys.exit(run_command(lambda _: recap_tf.train.main(sys.argv[1:])))
"""


@pytest.mark.slow
def test_mirrored_training_and_an_odd_batch(folder):
    def run(*overrides):
        return subprocess.run(
            [
                *(sys.executable, "-c", TWO_CPUS),
                *("--config", str(folder / "ranker.gin")),
                "--set=recap.train.strategy='mirrored'",
                *(f"--set={override}" for override in overrides),
            ],
            capture_output=True,
            text=True,
        )

    odd = run("recap.train.batch_size=5")
    assert odd.returncode == 2
    expected = "error: batch_size must be a multiple of the 2 replicas. Received: 5"
    assert odd.stderr.strip().splitlines()[-1] == expected
    even = run("recap.train.checkpoint_every=3")
    assert even.returncode == 0, even.stderr
    assert pathlib.Path(folder / "run/checkpoints/step-00000006").exists()
    # Without batch norm and dropout two replicas compute what one device does.
    plain = ["DoubleNormLog.batch_norm=None", "MLP.dropout=0.0"]
    plain += ["Records.shuffle_size=1", "Records.shuffle_files=False"]
    plain += ["recap.train.steps=1", "recap.train.deterministic=True"]
    run(*plain, f"recap.train.save_dir='{folder}/two'")
    _train(folder, *plain, f"recap.train.save_dir='{folder}/one'")
    states = [
        tf.train.load_checkpoint(str(folder / name / "checkpoints/step-00000001/state"))
        for name in ("one", "two")
    ]
    moments = [n for n in states[0].get_variable_to_shape_map() if "SLOT" in n]
    assert moments
    for name in moments:
        np.testing.assert_allclose(
            states[0].get_tensor(name), states[1].get_tensor(name), atol=1e-6
        )
