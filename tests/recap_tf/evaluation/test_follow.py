"""A training and its evaluator side by side, as processes and as a user runs them."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from recap_tf import evaluate, export, train
from recap_tf.core.command import UserError
from recap_tf.core.training import checkpoints
from recap_tf.data.record_writer import serialize_examples
from recap_tf.evaluation import evaluation_marks

CONFIG = """
include "recap_tf/tabular.gin"
recap.ranker.tasks = ["like", "reply"]
Records.schema = "{here}/schema.json"
Records.features = {"numbers": "continuous"}
Records.cache = False
train/Records.files = "{here}/records"
validation/Records.files = "{here}/records"
recap.ranker.validation_sets = [@validation/ValidationSet(), @other/ValidationSet()]
other/ValidationSet.name = "other"
other/ValidationSet.records = @validation/Records()
other/ValidationSet.tasks = ["like"]
RankingModel.small_embeddings = None
backbone/MLP.layer_sizes = [8]
tower/MLP.layer_sizes = [1]
recap.evaluate.which_metrics = ["examples", "ctr", "auroc", "gauc", "ndcg@3"]
recap.evaluate.group_feature = "meta.user"
recap.evaluate.slices = [@low/Slice()]
low/Slice.name = "low"
low/Slice.feature = "continuous"
low/Slice.in_range = (None, 0.0)
recap.train.early_stopping = None
recap.train.save_dir = "{here}/run"
recap.train.batch_size = 16
recap.train.steps = 12
recap.train.checkpoint_every = 4
recap.train.checkpoints_to_keep = 1
recap.export.folder = "{here}/models"
"""
SETS = ["validation", "other"]


@pytest.fixture
def config(tmp_path):
    """A config of two tasks and two validation sets, and its records."""
    rng = np.random.default_rng(5)
    numbers = rng.normal(size=(60, 3)).astype(np.float32)
    arrays = {
        "numbers": numbers,
        "like": (numbers[:, :1] + rng.normal(size=(60, 1)) > 0).astype(int),
        "reply": rng.integers(0, 2, (60, 1)),
        "meta.user": rng.integers(0, 6, (60, 1)),
    }
    with tf.io.TFRecordWriter(str(tmp_path / "records")) as writer:
        for record in serialize_examples(arrays):
            writer.write(record)
    entries = [
        {
            "feature_name": name,
            "dtype": "float_list" if name == "numbers" else "int64_list",
            "length": array.shape[1],
        }
        for name, array in arrays.items()
    ]
    (tmp_path / "schema.json").write_text(json.dumps({"schema": entries}))
    (tmp_path / "ranker.gin").write_text(CONFIG)
    return str(tmp_path / "ranker.gin")


def _steps(run) -> list[int]:
    return [checkpoints.step_of(p) for p in checkpoints.list_checkpoints(str(run))]


def _history(run) -> dict[int, dict]:
    files = sorted((run / "evaluations").iterdir())
    return {
        found["step"]: found for found in (json.loads(f.read_text()) for f in files)
    }


WAITING = [
    "--set=recap.train.evaluate_every=None",
    "--set=recap.train.wait_for_evaluator=True",
]


def test_a_trainer_that_waits_and_an_evaluator(config, tmp_path, capsys):
    run = tmp_path / "run"
    patience = "--set=recap.evaluate.timeout_seconds=0.5"
    with pytest.raises(UserError, match="step-00000012 is complete, but not evaluated"):
        train.main(["--config", config, *WAITING, patience])
    # Nobody has evaluated them, so none was deleted.
    assert _steps(run) == [4, 8, 12]
    follow = ["--config", config, "--checkpoint", str(run), "--follow"]
    evaluate.main([*follow, "--timeout", "5", "--json", str(tmp_path / "last.json")])
    assert list(_history(run)) == [4, 8, 12]
    shown = capsys.readouterr()
    assert shown.out.count("Step ") == 3
    assert "finished; all of it is evaluated" in shown.err
    # Nothing is left to wait for.
    train.main(["--config", config, *WAITING, patience])
    assert "nothing to do" in capsys.readouterr().err
    last = json.loads((tmp_path / "last.json").read_text())
    evaluate.main(
        [*follow[:-1], "--json", str(tmp_path / "one.json"), "--best=other/auroc/like"]
    )
    one = json.loads((tmp_path / "one.json").read_text())
    best = max(
        _history(run).values(), key=lambda f: f["sets"]["other"]["like"]["auroc"]
    )
    assert one == best
    assert set(last["sets"]["validation"]["reply"]) == {
        "examples",
        "ctr",
        "auroc",
        "gauc",
        "ndcg@3",
    }
    assert set(last["sets"]["other"]) == {"like"}
    assert 0 < last["slices"]["other"]["low"]["like"]["examples"] < 60
    assert last["standard_errors"]["validation"]["like"]["gauc"] > 0
    export.main(
        [
            *follow[:-1],
            "--best=validation/gauc/like",
            f"--out={tmp_path}/best",
        ]
    )
    # The best is not the last, which calibrators would have been fitted to.
    assert "Post-hoc calibrators: none. python -m" in capsys.readouterr().out
    described = json.loads((tmp_path / "best/1/assets.extra/ranker.json").read_text())
    best = max(
        _history(run).values(), key=lambda f: f["sets"]["validation"]["like"]["gauc"]
    )
    assert described["step"] == best["step"]


def test_what_the_trainer_evaluates_is_marked(config, tmp_path, capsys):
    run = tmp_path / "run"
    keep = "--set=recap.train.checkpoints_to_keep=None"
    train.main(["--config", config, "--set=recap.train.evaluate_every=4", keep])
    for path in checkpoints.list_checkpoints(str(run)):
        assert evaluation_marks.unmarked(path, SETS) == []
    evaluation = json.loads((run / "evaluation.json").read_text())
    assert _history(run)[12] == evaluation
    # There is nothing left for an evaluator.
    capsys.readouterr()
    evaluate.main(["--config", config, "--checkpoint", str(run), "--follow"])
    assert capsys.readouterr().out == ""
    # Trained on, the last checkpoint is no longer the last.
    train.main(
        [
            *("--config", config, keep, "--set=recap.train.steps=14"),
            "--set=recap.train.evaluate_every=None",
        ]
    )
    final = [
        checkpoints.read_metadata(path)["final"]
        for path in checkpoints.list_checkpoints(str(run))
    ]
    assert final == [False, False, False, True]


def test_the_best_checkpoint_stays(config, tmp_path):
    """Of eight evaluated checkpoints one is kept, and the best."""
    run = tmp_path / "run"
    train.main(
        [
            *("--config", config, "--set=recap.train.steps=8"),
            "--set=recap.train.checkpoint_every=1",
            "--set=recap.train.evaluate_every=1",
            "--set=recap.train.keep_best='other/auroc'",
            # From 0 to 1 and back: the best is somewhere in the middle.
            "--set=grouped_optimizer.learning_rates=0.5",
        ]
    )
    aurocs = {
        step: found["sets"]["other"]["like"]["auroc"]
        for step, found in _history(run).items()
    }
    best = max(aurocs, key=aurocs.get)
    assert len(aurocs) == 8 and _steps(run) == sorted({best, 8})
    assert best != 8


def test_a_kept_best_without_a_value_is_said_once(config, tmp_path, capsys):
    likeless = {
        "numbers": np.zeros((4, 3), np.float32),
        **{name: np.zeros((4, 1), int) for name in ("like", "reply", "meta.user")},
    }
    with tf.io.TFRecordWriter(str(tmp_path / "likeless")) as writer:
        for record in serialize_examples(likeless):
            writer.write(record)
    train.main(
        [
            *("--config", config, "--set=recap.train.steps=2"),
            "--set=recap.train.evaluate_every=1",
            f"--set=validation/Records.files='{tmp_path}/likeless'",
            "--set=recap.train.keep_best='other/auroc'",
        ]
    )
    said = "recap.train.keep_best: other/auroc has no value on validation set 'other'"
    assert capsys.readouterr().err.count(said) == 1


@pytest.mark.parametrize(
    "overrides, message",
    [
        (
            ["recap.train.wait_for_evaluator=True"],
            "wait_for_evaluator needs recap.train.evaluate_every = None.*Received: 200",
        ),
        (
            [
                "recap.train.wait_for_evaluator=True",
                "recap.train.evaluate_every=None",
                "recap.ranker.validation_sets=[]",
            ],
            "wait_for_evaluator: there is nothing to evaluate, recap.ranker.validation",
        ),
        (
            ["recap.train.keep_best='auroc'"],
            "recap.train.keep_best must be SET/METRIC or SET/METRIC/TASK. Received",
        ),
        (
            ["recap.train.keep_best='othr/auroc'"],
            "recap.train.keep_best: the validation set must be one of .*'othr'",
        ),
        (
            ["recap.train.keep_best='other/rce'"],
            "recap.train.keep_best: the metric must be one of recap.evaluate.which",
        ),
        (
            ["recap.train.keep_best='other/auroc/reply'"],
            "recap.train.keep_best: validation set 'other' does not report 'reply'",
        ),
    ],
)
def test_bad_settings(config, overrides, message):
    with pytest.raises(ValueError, match=message):
        train.main(["--config", config, *(f"--set={one}" for one in overrides)])


def test_flags_that_do_not_go_together(config, tmp_path):
    arguments = ["--config", config, "--checkpoint", str(tmp_path / "run")]
    with pytest.raises(UserError, match="--timeout is for --follow alone"):
        evaluate.main([*arguments, "--timeout", "3"])
    with pytest.raises(UserError, match="--follow evaluates every checkpoint"):
        evaluate.main([*arguments, "--follow", "--best", "other/auroc"])
    with pytest.raises(UserError, match="without post-hoc calibrators as it is; leave"):
        evaluate.main([*arguments, "--follow", "--without-calibrators"])
    with pytest.raises(UserError, match=r"--timeout must be above 0\. Received: -1\.0"):
        evaluate.main([*arguments, "--follow", "--timeout", "-1"])


KILLED = """
import os, signal, sys
import recap_tf.evaluate
from recap_tf.evaluation.evaluator import Evaluator
evaluate_set = Evaluator.evaluate_set
calls, last, name = [], int(sys.argv[1]), sys.argv[2]
def counted(self, named):
    calls.append(named.name)
    if len(calls) == last:
        os.kill(os.getpid(), signal.Signals[name])
    return evaluate_set(self, named)
Evaluator.evaluate_set = counted
sys.argv[1:] = sys.argv[3:]
sys.exit(recap_tf.evaluate.run_command(recap_tf.evaluate.main))
"""


@pytest.mark.slow
def test_two_processes_the_evaluator_killed_and_started_again(config, tmp_path):
    run = tmp_path / "run"
    trainer = subprocess.Popen(
        [sys.executable, "-m", "recap_tf.train", "--config", config, *WAITING],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    follow = ["--config", config, "--checkpoint", str(run), "--follow"]
    try:
        # The second set of the first checkpoint, then the first set of the second.
        for calls, name, code in [(2, "SIGKILL", -signal.SIGKILL), (2, "SIGTERM", 130)]:
            killed = subprocess.run(
                [sys.executable, "-c", KILLED, str(calls), name, *follow],
                capture_output=True,
                text=True,
            )
            assert killed.returncode == code, killed.stderr
        assert "goes on with the sets that are not yet done" in killed.stderr
        marks = [
            evaluation_marks.unmarked(checkpoints.checkpoint_path(str(run), step), SETS)
            for step in (4, 8)
        ]
        assert marks == [[], SETS]
        finished = subprocess.run(
            [sys.executable, "-m", "recap_tf.evaluate", *follow],
            capture_output=True,
            text=True,
        )
        assert finished.returncode == 0, finished.stderr
        assert [line for line in finished.stdout.splitlines() if "Step" in line] == [
            "Step 8",
            "Step 12",
        ]
        out, error = trainer.communicate(timeout=120)
    finally:
        trainer.kill()
    assert trainer.returncode == 0, error
    assert "Step 12, " in out and "Exported to" in out
    assert list(_history(run)) == [4, 8, 12]
    assert json.loads((run / "evaluation.json").read_text()) == _history(run)[12]
    assert os.path.exists(tmp_path / "models/1/saved_model.pb")


@pytest.mark.slow
def test_an_evaluator_without_a_training_ends_with_one_line_and_code_2(
    config, tmp_path
):
    result = subprocess.run(
        [
            *(sys.executable, "-m", "recap_tf.evaluate", "--config", config),
            *("--checkpoint", str(tmp_path / "run"), "--follow", "--timeout", "1"),
        ],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 2
    assert result.stderr.strip().splitlines() == [
        f"error: No checkpoint appeared below {tmp_path}/run for 1 s "
        "(recap.evaluate.timeout_seconds), at all. Is the training still running?"
    ]
