"""The evaluator beside a training: what it does, marks, and leaves out."""

import json
import os
import shutil

import pytest
import tensorflow as tf

from recap_tf.core import files
from recap_tf.core.command import UserError
from recap_tf.core.training import checkpoints
from recap_tf.data.record_batches import Records
from recap_tf.evaluation import evaluation_marks
from recap_tf.evaluation.best_checkpoint import (
    BestKeeper,
    best_evaluated,
    parse_watched,
)
from recap_tf.evaluation.evaluation_report import Measured
from recap_tf.evaluation.following_evaluator import FollowingEvaluator
from recap_tf.evaluation.validation_sets import ValidationSet
from recap_tf.training.trained import save_dir_of


def _save(save_dir, step, **metadata):
    path = save_dir / "checkpoints" / f"step-{step:08d}"
    path.mkdir(parents=True)
    (path / "checkpoint.json").write_text(json.dumps({"step": step} | metadata))
    return path


class _Evaluator:
    """Says that the AUROC of checkpoint `step` is values[step]."""

    def __init__(self, values=None):
        self.values = values or {}
        self.step = None
        self.seen = []
        self.before = lambda step, name: None

    def restore(self, path):
        checkpoints.read_metadata(path)
        self.step = checkpoints.step_of(path)

    def evaluate_set(self, named):
        self.before(self.step, named.name)
        self.seen.append((self.step, named.name))
        auroc = self.values.get(self.step, 0.5)
        metrics = {"auroc": Measured(auroc, 0.01), "log_loss": Measured(1 - auroc)}
        return {"all": {"like": metrics, "reply": dict(metrics)}}


def _set(name):
    records = Records(schema="s", files="f", features={})
    return ValidationSet(name=name, records=records)


def _follower(save_dir, evaluator, shown=None, timeout_seconds=0.2):
    told = []
    names = ["plain/set", "other"]
    follower = FollowingEvaluator(
        str(save_dir),
        evaluator.restore,
        evaluator,
        [_set(name) for name in names],
        timeout_seconds,
        told.append,
        lambda step, report: (shown if shown is not None else []).append(step),
    )
    return follower, told


def test_evaluates_every_checkpoint_on_every_set_once_up_to_the_last(tmp_path):
    for step in (5, 10):
        _save(tmp_path, step)
    evaluator = _Evaluator()
    shown = []

    def train_on(step, name):
        # While one checkpoint is evaluated, the last one appears.
        if (step, name) == (10, "other"):
            _save(tmp_path, 12, final=True)

    evaluator.before = train_on
    _follower(tmp_path, evaluator, shown)[0].run()
    assert evaluator.seen == [
        (step, name) for step in (5, 10, 12) for name in ("plain/set", "other")
    ]
    assert shown == [5, 10, 12]
    history = json.loads((tmp_path / "evaluations/step-00000010.json").read_text())
    assert set(history["sets"]) == {"plain/set", "other"}
    assert history["standard_errors"]["other"]["like"]["auroc"] == 0.01
    assert (tmp_path / "tensorboard/other").exists()
    again = _Evaluator()
    _follower(tmp_path, again)[0].run()
    assert again.seen == []


def test_goes_on_with_the_set_at_which_it_was_killed(tmp_path):
    _save(tmp_path, 5, final=True)
    killed = _Evaluator()

    def kill(step, name):
        if name == "other":
            raise KeyboardInterrupt

    killed.before = kill
    with pytest.raises(KeyboardInterrupt):
        _follower(tmp_path, killed)[0].run()
    assert not (tmp_path / "evaluations").exists()
    again = _Evaluator()
    _follower(tmp_path, again)[0].run()
    assert again.seen == [(5, "other")]
    history = json.loads((tmp_path / "evaluations/step-00000005.json").read_text())
    assert set(history["sets"]) == {"plain/set", "other"}


@pytest.mark.parametrize("when", ["before it is read", "while it is evaluated"])
def test_a_checkpoint_that_is_deleted_meanwhile_is_left_out(tmp_path, when):
    gone = _save(tmp_path, 5)
    _save(tmp_path, 10, final=True)
    evaluator = _Evaluator()
    if when == "before it is read":
        restore = evaluator.restore

        def restore_late(path):
            if path == str(gone):
                shutil.rmtree(gone)
            restore(path)

        evaluator.restore = restore_late
    else:
        evaluator.before = lambda step, name: shutil.rmtree(gone, ignore_errors=True)
    shown = []
    follower, told = _follower(tmp_path, evaluator, shown)
    follower.run()
    assert told == ["Step 5: the trainer has deleted this checkpoint."]
    assert shown == [10]
    assert os.listdir(tmp_path / "checkpoints") == ["step-00000010"]


def test_an_error_that_is_not_a_deletion_is_raised(tmp_path):
    _save(tmp_path, 5)
    evaluator = _Evaluator()

    def fail(path):
        raise OSError("disk")

    evaluator.restore = fail
    with pytest.raises(OSError, match="disk"):
        _follower(tmp_path, evaluator)[0].run()


@pytest.mark.parametrize("steps, where", [([], "at all"), ([5], "after .*step-0*5, ")])
def test_gives_up_when_no_checkpoint_comes(tmp_path, steps, where):
    for step in steps:
        _save(tmp_path, step, final=False)
    with pytest.raises(UserError, match=f"for 0.2 s .*timeout_seconds.*, {where}"):
        _follower(tmp_path, _Evaluator())[0].run()


def test_the_trainer_waits_for_marks_or_gives_up(tmp_path):
    path = str(_save(tmp_path, 5, final=True))
    names = ["plain/set", "other"]
    arguments = (str(tmp_path), path, names, 0.2)
    with pytest.raises(UserError, match=r"wait_for_evaluator: nothing was evaluated"):
        evaluation_marks.wait_until_marked(*arguments, stopped=lambda: False)
    assert not evaluation_marks.wait_until_marked(*arguments, stopped=lambda: True)
    _follower(tmp_path, _Evaluator())[0].run()
    assert evaluation_marks.unmarked(path, names) == []
    assert evaluation_marks.wait_until_marked(*arguments, stopped=lambda: True)


@pytest.fixture
def evaluated(tmp_path):
    """Three checkpoints, the second has the best AUROC; one is not evaluated."""
    for step in (5, 10, 15):
        _save(tmp_path, step, final=step == 15)
    values = {5: 0.6, 10: 0.8, 15: 0.7}
    follower, _ = _follower(tmp_path, _Evaluator(values))
    follower.run()
    _save(tmp_path, 20)
    return str(tmp_path)


@pytest.mark.parametrize(
    "best, step",
    [("other/auroc", 10), ("other/auroc/reply", 10), ("other/log_loss", 10)],
)
def test_the_best_evaluated_checkpoint(evaluated, best, step):
    path, value = best_evaluated(evaluated, parse_watched(best))
    assert checkpoints.step_of(path) == step
    assert value == pytest.approx(0.8 if "auroc" in best else 0.2)


@pytest.mark.parametrize(
    "best, message",
    [
        ("auroc", "--best must be SET/METRIC or SET/METRIC/TASK. Received: 'auroc'"),
        ("other/", "--best must be SET/METRIC"),
        ("other/aurok", "--best names the metric 'aurok'.*Did you mean 'auroc'"),
        ("other/ctr", "--best: of two values of 'ctr' neither is better"),
        (
            "third/auroc",
            "--best: none of the 4 checkpoints .* evaluated on 'third'; there are "
            "evaluations on other, plain/set",
        ),
        ("other/rce", "--best: the evaluation of .* does not report 'rce'"),
        ("other/auroc/share", "--best: the evaluation of .* does not report 'share'"),
    ],
)
def test_no_best_checkpoint(evaluated, best, message):
    with pytest.raises(ValueError, match=message):
        best_evaluated(evaluated, parse_watched(best))


def test_no_best_checkpoint_where_there_is_none_or_no_value(tmp_path):
    watched = parse_watched("other/auroc")
    with pytest.raises(UserError, match="There is no complete checkpoint below"):
        best_evaluated(str(tmp_path), watched)
    _save(tmp_path, 5, final=True)
    _follower(tmp_path, _Evaluator({5: float("nan")}))[0].run()
    with pytest.raises(UserError, match="auroc has no value on 'other' in any"):
        best_evaluated(str(tmp_path), watched)


def test_evaluations_without_the_metric_are_passed_over(evaluated):
    """As after a resume with other recap.evaluate.which_metrics."""
    mark = os.path.join(
        checkpoints.checkpoint_path(evaluated, 5), evaluation_marks.mark_name("other")
    )
    with open(mark) as file:
        found = json.load(file)
    for tasks in (found["sets"]["other"], found["standard_errors"]["other"]):
        for metrics in tasks.values():
            del metrics["auroc"]
    files.write_text(mark, json.dumps(found))
    path, _ = best_evaluated(evaluated, parse_watched("other/auroc"))
    assert checkpoints.step_of(path) == 10
    keeper = BestKeeper("keep", "other/auroc", evaluated, pytest.fail)
    assert keeper.spared() == {path}


def test_a_best_that_has_no_value_is_told_once(tmp_path):
    told = []
    keeper = BestKeeper("keep", "other/auroc", str(tmp_path), told.append)
    _save(tmp_path, 5, final=True)
    assert keeper.spared() == set()
    assert told == []
    evaluator = _Evaluator({5: float("nan")})
    _follower(tmp_path, evaluator)[0].run()
    assert keeper.spared() == set()
    keeper.look_at({"other": evaluator.evaluate_set(_set("other"))})
    assert told == [
        "keep: other/auroc has no value on validation set 'other': a task there has no "
        "positives or no negatives; name a task that has."
    ]


def test_best_and_follow_want_the_folder_of_a_run(evaluated):
    path = checkpoints.checkpoint_path(evaluated, 5)
    with pytest.raises(UserError, match="--best needs the folder of a run as --check"):
        save_dir_of(path, "--best")
    assert save_dir_of(f"{evaluated}/", "--best") == evaluated


@pytest.mark.parametrize("when", ["before", "during"])
def test_a_mark_never_brings_a_deleted_checkpoint_back(tmp_path, monkeypatch, when):
    path = _save(tmp_path, 5)
    written = []
    write = files.write_text

    def write_late(name, text):
        written.append(name)
        shutil.rmtree(path)
        write(name, text)

    monkeypatch.setattr(files, "write_text", write_late)
    if when == "before":
        shutil.rmtree(path)
    with pytest.raises(evaluation_marks.CheckpointGone):
        evaluation_marks.mark_evaluated(str(path), "other", {})
    assert len(written) == (when == "during")
    assert not path.exists()


@pytest.mark.parametrize("complete", [False, True], ids=["deleted", "another cause"])
def test_a_folder_deleted_before_the_rename_is_a_deletion(
    tmp_path, monkeypatch, complete
):
    path = _save(tmp_path, 5)

    def rename(source, *_, **__):
        if not complete:
            shutil.rmtree(path)
        raise tf.errors.NotFoundError(None, None, f"{source}; No such file")

    monkeypatch.setattr(tf.io.gfile, "rename", rename)
    expected = tf.errors.NotFoundError if complete else evaluation_marks.CheckpointGone
    with pytest.raises(expected):
        evaluation_marks.mark_evaluated(str(path), "other", {})
    assert path.exists() == complete


def test_the_trainer_may_be_faster_in_removing_what_is_left(tmp_path, monkeypatch):
    path = _save(tmp_path, 5)
    write, rmtree = files.write_text, tf.io.gfile.rmtree

    def write_late(name, text):
        os.remove(path / "checkpoint.json")
        write(name, text)

    def remove_late(folder):
        shutil.rmtree(folder)
        rmtree(folder)

    monkeypatch.setattr(files, "write_text", write_late)
    monkeypatch.setattr(tf.io.gfile, "rmtree", remove_late)
    with pytest.raises(evaluation_marks.CheckpointGone):
        evaluation_marks.mark_evaluated(str(path), "other", {})
