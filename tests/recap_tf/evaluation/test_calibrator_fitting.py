"""Calibrating a trained model: on a named set, into its checkpoint, into its export."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from recap_tf import calibrate, evaluate, export, train
from recap_tf.core.command import UserError, user_message
from recap_tf.core.training import checkpoints
from recap_tf.data.record_batches import Records, feature_specs
from recap_tf.data.record_writer import serialize_examples
from recap_tf.data.schema import Feature, write_schema
from recap_tf.evaluation import calibrator_fitting
from recap_tf.evaluation.calibrator_fitting import CalibrateSettings, fit_calibrators
from recap_tf.evaluation.validation_sets import ValidationSet
from recap_tf.model.mlp import MLP
from recap_tf.model.preprocessors import Log1pAbs
from recap_tf.model.ranking_model import RankingModel, create_ranking_model
from recap_tf.model.scorer import CalibratedRanker
from serving.models.saved_model import load_saved_model
from serving.models.version_files import VersionFiles

TASKS = ["like", "reply"]
RATES = {"like": (1.0, 0.25)}


def _write(path, log_odds, labels) -> None:
    """Records whose feature comes out of Log1pAbs as the log odds."""
    x = np.sign(log_odds) * np.expm1(np.abs(log_odds))
    arrays = {"x": x[:, np.newaxis].astype(np.float32)}
    arrays |= {task: column[:, np.newaxis] for task, column in labels.items()}
    with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
        for record in serialize_examples(arrays):
            writer.write(record)


def _planted(path, seed, examples) -> None:
    """Every like and a quarter of the others are kept; all replies are."""
    random = np.random.default_rng(seed)
    log_odds = random.normal(-1.0, 1.5, examples)
    labels = {
        task: (random.random(examples) < 1 / (1 + np.exp(-log_odds))).astype(int)
        for task in TASKS
    }
    kept = (labels["like"] > 0) | (random.random(examples) < RATES["like"][1])
    labels = {task: column[kept] for task, column in labels.items()}
    _write(path, log_odds[kept], labels)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("calibration")
    features = [Feature("x", "float_list", 1)]
    features += [Feature(task, "int64_list", 1) for task in TASKS]
    write_schema(str(folder / "schema.json"), features)
    for seed, name in enumerate(["fit", "fresh"]):
        _planted(folder / name, seed, 10000)
    none = np.zeros(50, int)
    _write(folder / "likeless", np.linspace(-3, 3, 50), {"like": none, "reply": none})
    _write(folder / "empty", np.zeros(0), {"like": none[:0], "reply": none[:0]})
    return folder


def _set(folder, name, tasks=None) -> ValidationSet:
    records = Records(
        schema=str(folder / "schema.json"),
        files=str(folder / name),
        features={"x": "continuous"},
        sampling_rates=RATES,
    )
    return ValidationSet(name=name, records=records, tasks=tasks)


def _model(folder, slope=2.0, offset=1.0) -> RankingModel:
    """Predicts slope * (the log odds in the sampled data) + offset."""
    model = create_ranking_model(
        lambda **settings: RankingModel(
            preprocessor=Log1pAbs(),
            tower=lambda: MLP([1]),
            sharing="share_none",
            **settings,
        ),
        TASKS,
        feature_specs(_set(folder, "fit").records),
        calibration_ratios={"like": 0.25},
        score_weights={"like": 1.0},
    )
    sampled = {"like": np.log(4.0), "reply": 0.0}
    for task in TASKS:
        kernel, bias = model.towers[task].weights
        kernel.assign([[slope]])
        bias.assign([slope * sampled[task] + offset])
    return model


def _fit(folder, model, names=("fit", "fresh"), **settings):
    settings = CalibrateSettings(**({"validation_set": "fit"} | settings))
    sets = [_set(folder, name) for name in names]
    return fit_calibrators(model, sets, settings, 512, lambda line: None)


@pytest.mark.parametrize("method", ["isotonic", "platt"])
def test_a_model_is_calibrated_after_its_sampling_rates_with_weights(folder, method):
    model = _model(folder)
    calibrators, comparisons = _fit(folder, model, method=method)
    rows = {(one.validation_set, one.task): one for one in comparisons}
    assert list(rows) == [(s, task) for s in ("fit", "fresh") for task in TASKS]
    for (name, _), one in rows.items():
        assert one.fitted_here == (name == "fit")
        assert one.method == method
        assert abs(one.before["calibration"] - 1) > 0.1
        assert one.after["calibration"] == pytest.approx(1.0, abs=0.05)
        assert one.before["calibration_error"] > 0.05
        assert one.after["calibration_error"] < 0.025
        # Ties; on the set it was fitted on they flatter isotonic a little.
        assert one.after["auroc"] == pytest.approx(one.before["auroc"], abs=5e-3)
    if method == "platt":
        # like: 2 * (x + log 4) + 1 + log 1/4 predicted, x true; reply: 2 x + 1.
        assert calibrators.maps["like"].slope == pytest.approx(0.5, abs=0.05)
        true = -0.5 * (2 * np.log(4) + 1 + np.log(0.25))
        assert calibrators.maps["like"].offset == pytest.approx(true, abs=0.1)


def test_the_model_and_its_score_use_the_calibrators(folder):
    model = _model(folder)
    x = {"continuous": tf.constant([[-2.0], [0.0], [5.0]])}
    plain = model(x, training=False)
    calibrators, _ = _fit(folder, model, methods={"reply": None})
    assert set(calibrators.maps) == {"like"}
    scorer = CalibratedRanker(model, calibrators)
    assert scorer.tasks == TASKS and model.calibrators is None
    outputs = scorer(x, training=False)
    found = outputs["calibrated_probabilities"].numpy()
    expected = calibrators.maps["like"](plain["logits"][:, 0] + np.log(0.25)).numpy()
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-5)
    assert np.abs(expected - plain["calibrated_probabilities"][:, 0]).max() > 0.05
    np.testing.assert_array_equal(found[:, 1], plain["calibrated_probabilities"][:, 1])
    np.testing.assert_array_equal(outputs["score"], found[:, 0])
    for name in ("logits", "probabilities"):
        np.testing.assert_array_equal(outputs[name], plain[name])
    # Fitting again starts from the model alone.
    again, _ = _fit(folder, model, names=["fit"], methods={"reply": None})
    assert again == calibrators


def test_another_set_and_method_for_a_task(folder):
    calibrators, _ = _fit(
        folder,
        _model(folder),
        validation_sets={"reply": "fresh"},
        methods={"reply": "platt"},
        batches=2,
    )
    assert str(calibrators) == "isotonic fitted on fit, platt fitted on fresh"


def test_batches_limits_what_is_read(folder):
    _, comparisons = _fit(folder, _model(folder), batches=2)
    assert {one.examples for one in comparisons} == {1024}


def test_a_set_without_positives_is_named(folder):
    with pytest.raises(UserError, match=r"Task 'like' has no positives on validation"):
        _fit(folder, _model(folder), names=["likeless"], validation_set="likeless")
    # It may still be reported on.
    _, comparisons = _fit(folder, _model(folder), names=["fit", "likeless"], batches=2)
    assert np.isnan(comparisons[-1].after["auroc"])
    assert comparisons[-1].as_json()["after"]["auroc"] is None


@pytest.mark.parametrize(
    "make, settings, expected",
    [
        (_set, {"validation_set": "nowhere"}, r"validation_set must be one of \['fit'"),
        (
            _set,
            {"validation_sets": {"like": "x"}},
            r"validation_sets\['like'\] must be",
        ),
        (_set, {"methods": {"share": None}}, "methods names the task 'share', which"),
        (_set, {"validation_sets": {"a": "fit"}}, "validation_sets names the task 'a'"),
        (_set, {"methods": dict.fromkeys(TASKS)}, "methods leaves no task"),
        (lambda f, n: _set(f, n, ["like"]), {}, "= 'fit' does not report 'reply'"),
    ],
)
def test_what_cannot_be_calibrated_is_named(folder, make, settings, expected):
    settings = CalibrateSettings(**({"validation_set": "fit"} | settings))
    sets = [make(folder, "fit")]
    with pytest.raises(ValueError, match=expected):
        fit_calibrators(_model(folder), sets, settings, 512, lambda line: None)


@pytest.mark.parametrize(
    "settings, expected",
    [
        ({"method": "beta"}, r"recap.calibrate.method must be one of \['isotonic', "),
        ({"methods": {"like": "beta"}}, r"methods\['like'\] must be one of"),
        ({"batches": 0}, "recap.calibrate.batches must be positive, or negative"),
    ],
)
def test_impossible_settings_are_refused(settings, expected):
    with pytest.raises(ValueError, match=expected):
        CalibrateSettings(validation_set="fit", **settings)


def test_an_empty_set_is_named(folder):
    with pytest.raises(UserError, match="Validation set 'empty' holds no examples"):
        _fit(folder, _model(folder), names=["empty"], validation_set="empty")


def test_predictions_that_are_not_finite_are_named(folder):
    model = _model(folder, slope=float("nan"))
    with pytest.raises(
        UserError, match=r"'like' has [\d,]+ predictions that are not f"
    ):
        _fit(folder, model)


# --- The commands -----------------------------------------------------------------

CONFIG = """
recap.ranker.tasks = ["like", "reply"]
recap.ranker.train_data = @Records()
Records.schema = "{here}/schema.json"
Records.features = {"x": "continuous"}
Records.files = "{here}/fit"
Records.sampling_rates = {"like": (1.0, 0.25)}
Records.weigh_by_sampling_rates = False
recap.ranker.validation_sets = [@fit/ValidationSet(), @fresh/ValidationSet()]
fit/ValidationSet.name = "fit"
fit/ValidationSet.records = @fit/Records()
fresh/ValidationSet.name = "fresh"
fresh/ValidationSet.records = @fresh/Records()
fresh/Records.files = "{here}/fresh"
recap.ranker.score_weights = {"reply": 13.5, "like": -2}
recap.ranker.model = @RankingModel
RankingModel.preprocessor = @Log1pAbs
RankingModel.tower = @MLP
RankingModel.sharing = "share_none"
MLP.layer_sizes = [4, 1]
recap.ranker.optimizer = @grouped_optimizer
grouped_optimizer.learning_rates = 0.01
recap.train.save_dir = "{here}/run"
recap.train.batch_size = 256
recap.train.steps = 30
recap.train.evaluate_every = None
recap.train.calibrate = True
recap.calibrate.validation_set = "fit"
recap.evaluate.batch_size = 2048
recap.export.folder = "{here}/models"
"""


@pytest.fixture(scope="module")
def run(folder):
    """A run that was calibrated at its end: --config and --checkpoint."""
    config = folder / "ranker.gin"
    config.write_text(CONFIG)
    train.main(["--config", str(config)])
    return ["--config", str(config), "--checkpoint", str(folder / "run")]


def _report(path) -> dict:
    return json.loads(pathlib.Path(path).read_text())["sets"]


def test_training_ends_calibrated(folder, run, tmp_path, capsys):
    path = pathlib.Path(checkpoints.choose_checkpoint(str(folder / "run")))
    stored = json.loads((path / calibrator_fitting.FILE).read_text())
    assert set(stored["calibrators"]) == set(TASKS)
    after = {
        (one["validation_set"], one["task"]): one["after"]["calibration"]
        for one in stored["comparisons"]
    }
    reported = _report(folder / "run" / "evaluation.json")
    evaluate.main([*run, "--json", str(tmp_path / "with")])
    assert "Post-hoc calibrators: isotonic fitted on fit." in capsys.readouterr().out
    assert _report(tmp_path / "with") == reported
    evaluate.main([*run, "--json", str(tmp_path / "without"), "--without-calibrators"])
    assert "Post-hoc calibrators: none." in capsys.readouterr().out
    plain = _report(tmp_path / "without")
    for (name, task), ratio in after.items():
        assert reported[name][task]["calibration"] == pytest.approx(ratio, rel=1e-5)
        assert plain[name][task]["calibration"] != reported[name][task]["calibration"]


def test_the_command_replaces_the_calibrators(folder, run, tmp_path, capsys):
    path = pathlib.Path(checkpoints.choose_checkpoint(str(folder / "run")))
    before = (path / calibrator_fitting.FILE).read_text()
    calibrate.main([*run, "--set=recap.calibrate.method='platt'"])
    table = capsys.readouterr().out
    assert "fit (fitted)" in table and "fresh" in table and " -> " in table
    evaluate.main([*run, "--json", str(tmp_path / "platt")])
    assert "Post-hoc calibrators: platt fitted on fit." in capsys.readouterr().out
    # Back, and the same as at the end of training.
    calibrate.main(run)
    assert (path / calibrator_fitting.FILE).read_text() == before


def test_without_positives_the_checkpoint_stays_as_it_was(folder, run):
    path = pathlib.Path(checkpoints.choose_checkpoint(str(folder / "run")))
    before = (path / calibrator_fitting.FILE).read_text()
    override = f"--set=fresh/Records.files='{folder}/likeless'"
    named = "--set=recap.calibrate.validation_set='fresh'"
    with pytest.raises(UserError, match="Task 'like' has no positives on validation"):
        calibrate.main([*run, override, named])
    assert (path / calibrator_fitting.FILE).read_text() == before


def test_training_that_cannot_calibrate_says_what_is_there(
    folder, run, tmp_path, capsys
):
    arguments = [
        *run[:2],
        f"--set=recap.train.save_dir='{tmp_path}/run'",
        "--set=recap.train.steps=1",
        f"--set=fit/Records.files='{folder}/likeless'",
    ]
    with pytest.raises(
        UserError, match=r"Training is complete; .* take .*step-00000001"
    ):
        train.main(arguments)
    assert len(checkpoints.list_checkpoints(f"{tmp_path}/run")) == 1
    train.main(arguments)
    assert "step-00000001 has no calibrators: use recap_tf" in capsys.readouterr().err


@pytest.mark.parametrize(
    "override, expected",
    [
        ("recap.calibrate.validation_set='nowhere'", "validation_set must be one of"),
        ("recap.calibrate.validation_set=None", "['fit', 'fresh']. Received: None"),
        ("recap.ranker.score_weights={'share': 1.0}", "score_weights names the task '"),
        (
            "recap.ranker.score_weights={'like': 1e999}",
            "score_weights['like'] must be a",
        ),
        ("recap.ranker.score_weights={'like': '1'}", "score_weights must be Mapping"),
    ],
)
def test_training_refuses_before_it_starts(folder, run, tmp_path, override, expected):
    save_dir = f"--set=recap.train.save_dir='{tmp_path}/run'"
    with pytest.raises(Exception) as caught:
        train.main([*run[:2], save_dir, f"--set={override}"])
    assert expected in user_message(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "text, expected",
    [
        ("{", "holds no calibrators"),
        ('{"calibrators": {"like": {"method": "beta"}}}', "holds no calibrators"),
        (
            '{"calibrators": {"share": {"method": "platt", "fitted_on": "fit", '
            '"slope": 1.0, "offset": 0.0}}}',
            "names the task 'share', which is not in",
        ),
    ],
)
def test_damaged_calibrators_are_one_line(tmp_path, text, expected):
    (tmp_path / calibrator_fitting.FILE).write_text(text)
    with pytest.raises(ValueError, match=expected):
        calibrator_fitting.read_calibrators(str(tmp_path), TASKS)


def test_a_feature_may_not_take_the_weights_name(folder, run, tmp_path):
    renamed = "--set=Records.features={'x': 'continuous', 'like': 'task_weights'}"
    with pytest.raises(UserError, match="must not be called 'task_weights'"):
        export.main([*run, "--out", str(tmp_path), renamed])


def test_exports_with_other_calibrators_are_one_graph(folder, run, tmp_path):
    for fitted_on in ("fit", "fresh"):
        calibrate.main([*run, f"--set=recap.calibrate.validation_set='{fitted_on}'"])
        keras.backend.clear_session()  # As in a process of its own.
        export.main([*run, "--out", str(tmp_path)])
    one, two = (VersionFiles(str(tmp_path / number)) for number in "12")
    assert one.fingerprint is not None
    assert one.fingerprint == two.fingerprint
    x = np.random.default_rng(3).normal(0, 3, (400, 1)).astype(np.float32)

    def ask(model) -> np.ndarray:
        signature, name = model.signature("serving_default"), "calibrated_probabilities"
        return model.run(signature, {"continuous": x}, [name])[name]

    model, expected = load_saved_model(one), ask(load_saved_model(two))
    assert np.abs(ask(model) - expected).max() > 0.001
    model.fill(two)
    np.testing.assert_array_equal(ask(model), expected)


def test_a_frozen_export_has_its_calibrators_as_constants(run, tmp_path):
    export.main([*run, "--out", str(tmp_path), "--variant", "frozen"])
    graph = VersionFiles(str(tmp_path / "1")).meta_graph.graph_def
    assert not [node.name for node in graph.node if node.op == "VarHandleOp"]


BARE = """
import sys, numpy as np, tensorflow as tf
given = np.load(sys.argv[2])
loaded = tf.saved_model.load(sys.argv[1])
s = loaded.signatures
x, w = tf.constant(given["x"]), tf.constant(given["task_weights"])
examples = tf.constant([bytes(e) for e in given["examples"]])
found = {
    "plain": s["serving_default"](continuous=x),
    "plain_examples": s["serve_examples"](examples=examples),
    "own": s["score"](continuous=x, task_weights=w),
    "own_examples": s["score_examples"](examples=examples, task_weights=w),
    "one_row": s["score"](continuous=x, task_weights=w[:1]),
    "tasks": s["tasks"](),
}
try:
    s["score"](continuous=x[:1], task_weights=w)
    raise SystemExit("one post got many scores")
except tf.errors.InvalidArgumentError:
    pass
assert not any(m.startswith(("recap_tf", "tf_keras")) for m in sys.modules)
np.savez(sys.argv[3], **{f"{k}/{n}": v.numpy().astype("S") if v.dtype == tf.string
    else v for k, out in found.items() for n, v in out.items()})
"""


def test_the_export_is_calibrated_and_scores_without_our_code(
    folder, run, tmp_path, capsys
):
    calibrate.main([*run, "--set=recap.calibrate.methods={'reply': 'platt'}"])
    export.main([*run, "--out", str(tmp_path / "models")])
    printed = capsys.readouterr().out
    assert "like: isotonic, " in printed and "reply: platt, " in printed
    assert "reply: 13.5" in printed
    random = np.random.default_rng(3)
    x = np.concatenate([random.normal(0, 3, (400, 1)), [[-1e6], [1e6]]])
    x = x.astype(np.float32)
    task_weights = random.normal(0, 100, (len(x), 2)).astype(np.float32)
    given, out = tmp_path / "given.npz", tmp_path / "out.npz"
    serialized = serialize_examples({"x": x})
    examples = np.array([np.void(record) for record in serialized], object)
    width = max(len(bytes(e)) for e in examples)
    assert {len(bytes(e)) for e in examples} == {width}
    np.savez(
        given, x=x, task_weights=task_weights, examples=examples.astype(f"V{width}")
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TF_")}
    environment.pop("PYTHONPATH", None)
    subprocess.run(
        [sys.executable, "-c", BARE, tmp_path / "models" / "1", given, out],
        check=True,
        env=environment,
        cwd=tmp_path,
    )
    found = np.load(out)
    path = checkpoints.choose_checkpoint(str(folder / "run"))
    maps = calibrator_fitting.read_calibrators(path, TASKS).maps
    logits = found["plain/logits"]
    log_odds = logits + np.log(np.float32([0.25, 1.0]))
    calibrated = np.stack(
        [maps[task](log_odds[:, i]).numpy() for i, task in enumerate(TASKS)], axis=1
    )
    assert np.abs(calibrated - found["plain/probabilities"]).max() > 0.01
    defaults = np.float32([-2.0, 13.5])
    np.testing.assert_array_equal(found["tasks/score_weights"], defaults)
    assert found["tasks/tasks"].tolist() == [b"like", b"reply"]
    for name, weights in {
        "plain": defaults,
        "plain_examples": defaults,
        "own": task_weights,
        "own_examples": task_weights,
        "one_row": task_weights[:1],
    }.items():
        probabilities = found[f"{name}/calibrated_probabilities"]
        np.testing.assert_allclose(probabilities, calibrated, atol=1e-6)
        expected = (probabilities.astype(np.float64) * weights).sum(axis=1)
        assert found[f"{name}/score"].shape == (len(x),)
        np.testing.assert_allclose(found[f"{name}/score"], expected, atol=1e-4)
    described = json.loads((tmp_path / "models/1/assets.extra/ranker.json").read_text())
    assert described["score_weights"] == {"like": -2.0, "reply": 13.5}
    assert described["calibrators"]["reply"]["method"] == "platt"
