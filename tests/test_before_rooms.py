"""What was written before the modules moved into rooms still loads, and means the same.

`before_rooms/` holds a small ranker (tables, calibrators, an export) and a small graph:
data, configs, two checkpoints of one run each, and what that code answered.
Stored weights must come back bit for bit; computed numbers may differ in their last
digits on a processor with other instructions.
"""

import json
import math
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow as tf

from recap_tf import evaluate as recap_evaluate
from recap_tf import settings as recap_settings
from recap_tf import train as recap_train
from recap_tf.core.config import gin_config
from twhin_tf import evaluate as twhin_evaluate
from twhin_tf import settings as twhin_settings
from twhin_tf import train as twhin_train

BEFORE = pathlib.Path(__file__).parent / "before_rooms"
LAST = "run/checkpoints/step-00000020"
FIRST = "run/checkpoints/step-00000010"


@pytest.fixture
def folder(request, tmp_path, monkeypatch):
    """A copy of one folder, in the current folder as it was when it was written."""
    shutil.copytree(BEFORE / request.param, tmp_path / request.param)
    monkeypatch.chdir(tmp_path)
    return tmp_path / request.param


def _variables(checkpoint: pathlib.Path) -> dict[str, np.ndarray]:
    reader = tf.train.load_checkpoint(str(checkpoint / "state"))
    return {
        name: reader.get_tensor(name)
        for name in reader.get_variable_to_shape_map()
        if name.endswith("VARIABLE_VALUE")
    }


def _assert_same_numbers(left, right, where=""):
    """Equal but for the last digits of floats."""
    if isinstance(left, dict):
        assert left.keys() == right.keys(), where
        for name in left:
            _assert_same_numbers(left[name], right[name], f"{where}/{name}")
    elif isinstance(left, list):
        assert len(left) == len(right), where
        for place, (a, b) in enumerate(zip(left, right, strict=True)):
            _assert_same_numbers(a, b, f"{where}/{place}")
    elif isinstance(left, float):
        same = math.isclose(left, right, rel_tol=1e-4, abs_tol=1e-6)
        assert same or (math.isnan(left) and math.isnan(right)), (where, left, right)
    else:
        assert left == right, where


@pytest.mark.parametrize(
    "folder, settings",
    [("ranker", recap_settings), ("graph", twhin_settings)],
    indirect=["folder"],
)
def test_the_settings_saved_with_a_checkpoint_mean_themselves(folder, settings):
    path = folder / LAST / "config.gin"
    gin_config.load(str(path), roots=settings.ROOTS)
    assert gin_config.operative() == path.read_text()


@pytest.mark.parametrize(
    "folder, evaluate",
    [("ranker", recap_evaluate), ("graph", twhin_evaluate)],
    indirect=["folder"],
)
def test_an_old_checkpoint_is_as_good_as_it_was(folder, evaluate):
    evaluate.main(
        [
            f"--config={folder.name}/old.gin",
            f"--checkpoint={folder.name}/run",
            "--json=now.json",
        ]
    )
    now = json.loads(pathlib.Path("now.json").read_text())
    _assert_same_numbers(json.loads((folder / "run/evaluation.json").read_text()), now)


@pytest.mark.parametrize(
    "folder, train",
    [("ranker", recap_train), ("graph", twhin_train)],
    indirect=["folder"],
)
def test_an_old_run_goes_on_as_it_went_on(folder, train, capsys):
    expected = _variables(folder / LAST)
    shutil.rmtree(folder / LAST)
    train.main(["--config", f"{folder.name}/old.gin"])
    assert f"Going on from {folder.name}/{FIRST}" in capsys.readouterr().err
    now = _variables(folder / LAST)
    assert now.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(now[name], value, rtol=1e-4, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("folder", ["ranker", "graph"], indirect=True)
def test_a_finished_run_is_left_as_it_is(folder, capsys):
    before = _variables(folder / LAST)
    train = recap_train if folder.name == "ranker" else twhin_train
    train.main(["--config", f"{folder.name}/old.gin"])
    assert "is finished at step 20" in capsys.readouterr().err
    after = _variables(folder / LAST)
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value, err_msg=name)


@pytest.mark.parametrize("folder", ["ranker"], indirect=True)
def test_an_old_export_answers_as_it_did(folder):
    model = tf.saved_model.load(str(folder / "models" / "1"))
    path = str(folder / "validation-00000-of-00001.tfrecord.gz")
    examples = list(tf.data.TFRecordDataset(path, "GZIP").as_numpy_iterator())
    answers = model.signatures["serve_examples"](tf.constant(examples))
    with np.load(folder / "answers.npz") as expected:
        assert set(answers) == set(expected)
        for name in expected:
            np.testing.assert_allclose(
                answers[name].numpy(), expected[name], rtol=1e-5, atol=1e-6
            )


@pytest.mark.parametrize("folder", ["ranker"], indirect=True)
def test_a_new_export_of_an_old_checkpoint_answers_the_same(folder):
    from recap_tf import export

    export.main(
        ["--config", "ranker/old.gin", "--checkpoint", "ranker/run", "--out", "again"]
    )
    path = str(folder / "validation-00000-of-00001.tfrecord.gz")
    examples = list(tf.data.TFRecordDataset(path, "GZIP").as_numpy_iterator())
    answers = tf.saved_model.load("again/1").signatures["serve_examples"](
        tf.constant(examples)
    )
    with np.load(folder / "answers.npz") as expected:
        for name in expected:
            np.testing.assert_allclose(
                answers[name].numpy(), expected[name], rtol=1e-5, atol=1e-6
            )
