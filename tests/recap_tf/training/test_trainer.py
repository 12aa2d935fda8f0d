"""Training, evaluation and export, end to end on tiny data, as a user runs them."""

import json
import os
import pathlib
import signal
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from recap_tf import evaluate, export, settings, train
from recap_tf.core.command import UserError
from recap_tf.core.config import gin_config
from recap_tf.core.training import checkpoints
from recap_tf.data import record_batches
from recap_tf.data.record_batches import Mode, Shard, read_batches
from recap_tf.evaluation.validation_sets import EvaluateSettings
from recap_tf.training.building import build_model
from recap_tf.training.trainer import RankerTrainer

TINY = str(pathlib.Path(__file__).parents[3] / "configs" / "recap_tiny.gin")
TASK = "recap.engagement.is_favorited"


@pytest.fixture(autouse=True)
def plain_precision():
    yield
    keras.mixed_precision.set_global_policy("float32")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Overrides that point the tiny config at data made once."""
    folder = tmp_path_factory.mktemp("data") / "recap_tiny"
    overrides = [
        f"--set=SyntheticData.folder='{folder}'",
        "--set=SyntheticData.examples=1200",
        "--set=SyntheticData.validation_examples=200",
        # Three sets instead of twelve.
        f"--set=validation_sets.sampling_rates={{'{TASK}': (0.8387, 0.01)}}",
        f"--set=Records.sampling_rates={{'{TASK}': (1.0, 0.1)}}",
        f"--set=train/Records.files='{folder}/train/*.gz'",
        f"--set=validation_sets.files='{folder}/{{set}}/*.gz'",
    ]
    return overrides


def _arguments(data, folder, **train_settings) -> list[str]:
    settings = {
        "save_dir": repr(str(folder / "run")),
        "steps": 12,
        "log_every": 4,
        "checkpoint_every": 5,
        "batch_size": 64,
        "deterministic": True,
    } | train_settings
    return [
        "--config",
        TINY,
        *data,
        f"--set=recap.export.folder='{folder}/models'",
        *(f"--set=recap.train.{name}={value}" for name, value in settings.items()),
    ]


def _state(save_dir) -> dict[str, np.ndarray]:
    """All variables of the newest checkpoint: weights, optimizer, step."""
    path = checkpoints.list_checkpoints(str(save_dir))[-1]
    reader = tf.train.load_checkpoint(f"{path}/state")
    return {
        name: reader.get_tensor(name)
        for name in reader.get_variable_to_shape_map()
        if not name.startswith("_CHECKPOINT") and "save_counter" not in name
    }


def _tags(save_dir, run) -> set[str]:
    """The names of the curves in TensorBoard."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(save_dir / "tensorboard" / run))
    events.Reload()
    return set(events.Tags()["tensors"])


def _assert_same_state(first, second) -> None:
    first, second = _state(first), _state(second)
    assert set(first) == set(second)
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name], err_msg=name)


def _load(arguments) -> settings.Ranker:
    values = [a.removeprefix("--set=") for a in arguments[2:]]
    gin_config.load(TINY, values, roots=settings.ROOTS)
    return settings.Ranker()


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """A finished run: (its folder, its arguments)."""
    folder = tmp_path_factory.mktemp("trained")
    arguments = _arguments(data, folder, steps=60, checkpoint_every=25)
    train.main(arguments)
    return folder, arguments


def test_the_whole_job(trained, capsys):
    folder, arguments = trained
    steps = [
        checkpoints.step_of(p)
        for p in checkpoints.list_checkpoints(str(folder / "run"))
    ]
    assert steps == [25, 50, 60]
    report = json.loads((folder / "run" / "evaluation.json").read_text())
    assert report["step"] == 60
    ranker = _load(arguments)
    assert set(report["sets"]["train"]) == {*ranker.tasks, "score"}
    assert set(report["sets"]["favorited"]) == {TASK}
    assert report["sets"]["train"][TASK]["examples"] == 1200
    assert report["sets"]["train"][TASK]["auroc"] > 0.6
    assert (folder / "models" / "1" / "saved_model.pb").exists()
    saved = folder / "run" / "checkpoints" / "step-00000060" / "config.gin"
    gin_config.load(str(saved), roots=settings.ROOTS)
    assert settings.Ranker().tasks == ranker.tasks
    # A finished run does nothing.
    train.main(arguments)
    assert "is finished at step 60; nothing to do" in capsys.readouterr().err
    assert not (folder / "models" / "2").exists()


def test_evaluate_gives_what_training_reported(trained, tmp_path, capsys):
    folder, arguments = trained
    checkpoint = ["--checkpoint", str(folder / "run")]
    out = tmp_path / "report.json"
    evaluate.main([*arguments, *checkpoint, "--json", str(out)])
    assert json.loads(out.read_text()) == json.loads(
        (folder / "run" / "evaluation.json").read_text()
    )
    table = capsys.readouterr().out
    assert "auroc" in table and TASK.rsplit(".", 1)[-1] in table


def test_tensorboard_shows_losses_rates_speed_and_metrics(trained):
    folder, _ = trained
    assert {
        "loss",
        f"loss/{TASK}",
        "learning_rate/backbone",
        f"learning_rate/{TASK}",
        "speed/examples_per_second",
        "speed/active_seconds",
    } <= _tags(folder / "run", "train")
    metrics = {f"auroc/{TASK}", f"rce/{TASK}"}
    assert metrics <= _tags(folder / "run", "validation")


def test_specs_of_features_are_traced_once(data, tmp_path, monkeypatch):
    ranker = _load(_arguments(data, tmp_path))
    traced, plain = [], record_batches.serving_features

    def counted(records, raw):
        traced.append(records)
        return plain(records, raw)

    monkeypatch.setattr(record_batches, "serving_features", counted)
    RankerTrainer(ranker, settings.TrainSettings(), EvaluateSettings(), config="")
    assert len(traced) == 1  # Of training and validation set alike.


def test_export_scores_like_the_model_without_our_code(trained, tmp_path):
    folder, arguments = trained
    models = tmp_path / "models"
    checkpoint = ["--checkpoint", str(folder / "run")]
    export.main([*arguments, *checkpoint, "--out", str(models)])
    ranker = _load(arguments)
    model = build_model(ranker)
    checkpoints.restore_model(checkpoints.choose_checkpoint(str(folder / "run")), model)
    records = ranker.train_data
    count = 1000
    features = next(iter(read_batches(records, ranker.tasks, Mode.INFERENCE, count)))
    expected = model(features, training=False)
    examples = _serialized(ranker, count)
    np.save(tmp_path / "examples.npy", examples.numpy())
    script = """
import sys, numpy as np, tensorflow as tf
examples = np.load(sys.argv[2], allow_pickle=True)
loaded = tf.saved_model.load(sys.argv[1])
out = loaded.signatures["serve_examples"](examples=tf.constant(examples))
spec = loaded.signatures["serving_default"].structured_input_signature[1]
names = {n: s for n, s in zip(sys.argv[4::2], sys.argv[5::2])}
parsed = tf.io.parse_example(tf.constant(examples), {
    n: tf.io.FixedLenFeature(spec[own].shape[1:], spec[own].dtype,
                             tf.zeros(spec[own].shape[1:], spec[own].dtype))
    for n, own in names.items()})
dense = loaded.signatures["serving_default"](**{names[n]: v for n, v in parsed.items()})
about = loaded.signatures["tasks"]()
assert not any(m.startswith(("recap_tf", "tf_keras")) for m in sys.modules)
np.savez(sys.argv[3], tasks=about["tasks"].numpy().astype("S"),
         ratios=about["calibration_ratios"],
         **{f"examples_{k}": v for k, v in out.items()},
         **{f"dense_{k}": v for k, v in dense.items()})
"""
    out = tmp_path / "scores.npz"
    named = [x for pair in records.features.items() for x in pair]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TF_")}
    subprocess.run(
        [
            *(sys.executable, "-c", script),
            *(models / "1", tmp_path / "examples.npy", out),
            *named,
        ],
        check=True,
        env=environment,
        cwd=tmp_path,
    )
    scores = np.load(out)
    for name in ("logits", "probabilities", "calibrated_probabilities"):
        assert scores[f"examples_{name}"].shape == (count, len(ranker.tasks))
        for kind in ("examples", "dense"):
            np.testing.assert_allclose(
                scores[f"{kind}_{name}"], expected[name], atol=1e-5
            )
    assert [task.decode() for task in scores["tasks"]] == list(ranker.tasks)
    np.testing.assert_allclose(scores["ratios"][0], 0.1, rtol=1e-6)
    described = json.loads((models / "1/assets.extra/ranker.json").read_text())
    assert described["tasks"] == list(ranker.tasks) and described["step"] == 60


def _serialized(ranker, count) -> tf.Tensor:
    """The records' bytes in the order in which they are read."""
    dataset = record_batches._serialized(
        ranker.train_data, Mode.INFERENCE, Shard(), seed=0
    )
    return next(iter(dataset.batch(count)))


def test_versions_are_numbered_and_never_overwritten(trained, tmp_path):
    folder, arguments = trained
    rest = ["--checkpoint", str(folder / "run"), "--out", str(tmp_path / "models")]
    export.main([*arguments, *rest, "--version", "7"])
    with pytest.raises(UserError, match="models/7 exists; versions are never"):
        export.main([*arguments, *rest, "--version", "7"])
    export.main([*arguments, *rest])
    assert sorted(os.listdir(tmp_path / "models")) == ["7", "8"]


def test_accumulated_batches_are_one_large_batch(data, tmp_path):
    # Without batch norm the gradient of a batch is the mean of its parts'.
    plain = ["--set=DoubleNormLog.batch_norm=None", "--set=tower/MLP.batch_norm=None"]
    plain += ["--set=RankingModel.towers={}", "--set=Records.shuffle_size=1"]
    runs = {}
    for name, (size, parts) in {"whole": (96, 1), "parts": (32, 3)}.items():
        folder = tmp_path / name
        settings = {"batch_size": size, "gradient_accumulation": parts, "steps": 4}
        train.main([*_arguments(data, folder, **settings), *plain])
        runs[name] = _state(folder / "run")
    for name, value in runs["whole"].items():
        np.testing.assert_allclose(
            value, runs["parts"][name], atol=1e-5, rtol=1e-4, err_msg=name
        )


def test_warm_start_takes_weights_and_begins_at_step_0(trained, data, tmp_path):
    folder, _ = trained
    start = repr(str(folder / "run"))
    # Rate 0 for the first update of a ramp: the weights stay what they were given.
    arguments = _arguments(data, tmp_path, steps=1, initial_checkpoint_dir=start)
    ramp = ["--set=grouped_optimizer.learning_rates=@LinearRampToConstant()"]
    ramp += ["--set=LinearRampToConstant.learning_rate=1.0"]
    ramp += ["--set=LinearRampToConstant.ramp_steps=10"]
    train.main([*arguments, *ramp])
    state, before = _state(tmp_path / "run"), _state(folder / "run")
    assert state["step/.ATTRIBUTES/VARIABLE_VALUE"] == 1
    kernels = [n for n in state if n.endswith("kernel/.ATTRIBUTES/VARIABLE_VALUE")]
    assert kernels
    for name in kernels:
        np.testing.assert_array_equal(state[name], before[name])


def test_old_checkpoints_go_but_the_newest_stay(data, tmp_path):
    train.main(
        _arguments(data, tmp_path, steps=9, checkpoint_every=2, checkpoints_to_keep=2)
    )
    found = checkpoints.list_checkpoints(str(tmp_path / "run"))
    assert [checkpoints.step_of(path) for path in found] == [8, 9]


def test_debug_runs_the_same_steps_eagerly(data, tmp_path):
    for name, extra in {"graph": [], "eager": ["--debug"]}.items():
        arguments = _arguments(data, tmp_path / name, steps=2)
        train.main([*arguments, *extra])
    graph, eager = _state(tmp_path / "graph/run"), _state(tmp_path / "eager/run")
    kernels = [name for name in graph if "kernel/.ATTRIBUTES" in name]
    assert kernels
    for name in kernels:
        np.testing.assert_allclose(graph[name], eager[name], atol=1e-4, err_msg=name)


def test_early_stopping_keeps_and_exports_the_best(data, tmp_path, capsys):
    early = [
        "--set=recap.train.early_stopping=@EarlyStopping()",
        "--set=EarlyStopping.validation_set='train'",
        # A count does not change, so no evaluation after the first is better.
        "--set=EarlyStopping.metric='examples'",
        "--set=EarlyStopping.larger_is_better=True",
        "--set=EarlyStopping.patience=2",
    ]
    train.main(
        [*_arguments(data, tmp_path, evaluate_every=2, checkpoints_to_keep=1), *early]
    )
    assert "Stopping at step 6" in capsys.readouterr().err
    run = str(tmp_path / "run")
    assert checkpoints.step_of(checkpoints.choose_checkpoint(run)) == 2
    report = json.loads((tmp_path / "run/evaluation.json").read_text())
    assert report["step"] == 2
    described = (tmp_path / "models/1/assets.extra/ranker.json").read_text()
    assert json.loads(described)["step"] == 2


def test_bfloat16_trains_and_keeps_float32_weights(data, tmp_path):
    arguments = _arguments(data, tmp_path, steps=3)
    train.main([*arguments, "--set=recap.ranker.precision='bfloat16'"])
    report = json.loads((tmp_path / "run/evaluation.json").read_text())
    assert 0 < report["sets"]["train"][TASK]["pctr"] < 1
    state = _state(tmp_path / "run")
    floats = {value.dtype for value in state.values() if value.dtype.kind == "f"}
    assert floats == {np.dtype(np.float32)}


def _balanced(by: str) -> list[str]:
    return [
        "--set=recap.ranker.loss=@MultiTaskLoss()",
        f"--set=MultiTaskLoss.task_balancing=@{by}",
        "--set=recap.evaluate.steps=1",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("by", ["UncertaintyWeighting", "GradNorm", "PCGrad"])
def test_balanced_tasks_resume_bit_equal(data, tmp_path, by):
    for name, stops in {"whole": (6,), "parts": (3, 6)}.items():
        for steps in stops:
            # As in a process of its own: layers' names, from which TensorFlow takes
            # the order of sums, count on within one.
            keras.backend.clear_session()
            arguments = _arguments(
                data,
                tmp_path / name,
                steps=steps,
                log_every=2,
                gradient_accumulation=2,
                clip_norm=0.5,
                evaluate_every=None,
            )
            train.main([*arguments, *_balanced(by)])
    _assert_same_state(tmp_path / "whole/run", tmp_path / "parts/run")
    own = {n: v for n, v in _state(tmp_path / "whole/run").items() if "balancing" in n}
    tags = _tags(tmp_path / "whole/run", "train")
    if by == "PCGrad":
        assert not own
    else:
        weights = [v for name, v in own.items() if "SLOT" not in name]
        assert weights and not any(np.all(v == v[0]) for v in weights)
        # Adam's moments of them are kept, too.
        assert any("SLOT" in name for name in own)
        assert {f"task_weight/{TASK}", "learning_rate/task_balancing"} <= tags


def test_going_on_with_another_task_balancing(trained):
    folder, arguments = trained
    arguments = [*arguments, "--set=recap.train.steps=70", *_balanced("GradNorm")]
    with pytest.raises(UserError, match="is of a run with another optimizer or loss"):
        train.main(arguments)
    found = checkpoints.list_checkpoints(str(folder / "run"))
    assert checkpoints.step_of(found[-1]) == 60


def test_pairs_within_a_user(data, tmp_path):
    pairwise = [
        "--set=recap.ranker.loss=@MultiTaskLoss()",
        "--set=MultiTaskLoss.pairwise=@PairwiseLogistic()",
        "--set=PairwiseLogistic.group_feature='meta.user_id'",
        "--set=PairwiseLogistic.factor=0.5",
    ]
    arguments = [*_arguments(data, tmp_path, steps=4), *pairwise]
    arguments.append("--set=recap.evaluate.steps=1")
    message = r"PairwiseLogistic.group_feature = 'meta.user_id' is not among the feat"
    with pytest.raises(ValueError, match=message):
        train.main(arguments)
    train.main([*arguments, "--set=Records.extra_features=['meta.user_id']"])
    assert f"pairs/{TASK}" in _tags(tmp_path / "run", "train")


def test_clip_norm_must_be_positive(data, tmp_path):
    message = (
        r"recap.train.clip_norm must be above 0, or None for no limit. Received: 0.0"
    )
    with pytest.raises(ValueError, match=message):
        train.main(_arguments(data, tmp_path, clip_norm=0.0))


@pytest.mark.slow
def test_the_training_step_compiles_with_xla(trained, data, tmp_path):
    """As it has to for a TPU; and computes the same there, but for dropout."""
    plain = ["--set=RankingModel.towers={}"]
    ranker = _load([*_arguments(data, tmp_path), *plain])
    results = []
    for compiled in (False, True):
        train_settings = settings.TrainSettings()
        trainer = RankerTrainer(ranker, train_settings, EvaluateSettings(), config="")
        batch = next(
            iter(read_batches(ranker.train_data, ranker.tasks, Mode.TRAIN, 64, seed=1))
        )
        step = tf.function(trainer.train_step.on_replica, jit_compile=compiled)
        results.append([step([batch]).numpy() for _ in range(3)])
    np.testing.assert_allclose(results[0], results[1], rtol=1e-3)
    assert results[0][0][0] != results[0][2][0]


KILLER = """
import os, signal, sys
import recap_tf.train
from recap_tf.core import files
from recap_tf.core.training import loop, nan_stop
where, at = sys.argv[1], int(sys.argv[2])
def die(): os.kill(os.getpid(), signal.SIGKILL)
if where == "step":
    check = nan_stop.check_finite
    def checked(step, *rest):
        if step >= at: die()
        check(step, *rest)
    nan_stop.check_finite = checked
    loop._MOST_STEPS_PER_CALL = 1
elif where == "checkpoint":
    write = files.write_text
    def written(path, text):
        if f".partial-step-{at:08d}" in path and path.endswith("checkpoint.json"): die()
        write(path, text)
    files.write_text = written
elif where == "signal":
    check = nan_stop.check_finite
    def checked(step, *rest):
        if step == at: os.kill(os.getpid(), signal.SIGTERM)
        check(step, *rest)
    nan_stop.check_finite = checked
    loop._MOST_STEPS_PER_CALL = 1
recap_tf.train.main(sys.argv[3:])
"""


def _run(where, at, arguments) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", KILLER, where, str(at), *arguments],
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_killed_and_resumed_runs_end_bit_equal(data, tmp_path):
    whole = _arguments(data, tmp_path / "whole", steps=14, evaluate_every=7)
    assert _run("never", 0, whole).returncode == 0
    killed = _arguments(data, tmp_path / "killed", steps=14, evaluate_every=7)
    # Between checkpoints, in the middle of writing one, and right after one.
    for where, at in [("step", 3), ("step", 8), ("checkpoint", 10), ("step", 11)]:
        result = _run(where, at, killed)
        assert result.returncode == -signal.SIGKILL, result.stderr
        if where == "checkpoint":
            partial = tmp_path / "killed/run/checkpoints/.partial-step-00000010"
            assert partial.exists()
    result = _run("never", 0, killed)
    assert result.returncode == 0, result.stderr
    assert not partial.exists()
    _assert_same_state(tmp_path / "whole/run", tmp_path / "killed/run")
    first, second = (
        json.loads((tmp_path / name / "run/evaluation.json").read_text())
        for name in ("whole", "killed")
    )
    assert first == second


@pytest.mark.slow
def test_a_signal_finishes_the_step_saves_and_says_how_to_go_on(data, tmp_path):
    arguments = _arguments(data, tmp_path, steps=14)
    result = _run("signal", 7, arguments)
    assert result.returncode == 0, result.stderr
    assert "SIGTERM: finishing the step, then saving." in result.stderr
    assert "Stopped after step 7 of 14; saved in" in result.stderr
    assert not (tmp_path / "models").exists()
    found = checkpoints.list_checkpoints(str(tmp_path / "run"))
    assert checkpoints.step_of(found[-1]) == 7
    train.main(arguments)
    assert (tmp_path / "models/1").exists()
