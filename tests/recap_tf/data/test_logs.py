"""A log as it comes, from dated folders to a served model: configs/recap_logs.gin."""

import json
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow as tf

from recap_tf import evaluate, settings, train
from recap_tf.core.command import user_message
from recap_tf.core.config import gin_config
from recap_tf.data import record_batches
from recap_tf.data.downsampling import DownsampleNegatives
from recap_tf.data.record_batches import Mode, Records, read_batches
from recap_tf.data.record_writer import serialize_examples

CONFIG = str(pathlib.Path(__file__).parents[3] / "configs" / "recap_logs.gin")
TASKS = [f"recap.engagement.is_{what}" for what in ("favorited", "replied")]
TIMES = ["meta.served_ms", "meta.impressed_ms", "meta.favorited_ms", "meta.replied_ms"]
DISCRETE = "home_recap_2022_discrete__segdense_vals"
HOUR = 3_600_000


def _arguments(folder, *overrides) -> list[str]:
    values = [
        f"SyntheticData.folder='{folder}/data'",
        "SyntheticData.examples=2800",
        "SyntheticData.files=14",
        "SyntheticData.validation_examples=2000",
        "SyntheticData.validation_files=1",  # read in their order
        "SyntheticData.default_rate=0.1",
        "SyntheticLog.late_share=0.05",
        "DownsampleNegatives.batch_multiplier=2",
        f"DatedFolders.root='{folder}/data/train'",
        f"validation_sets.files='{folder}/data/{{set}}/*.gz'",
        f"recap.train.save_dir='{folder}/run'",
        f"recap.export.folder='{folder}/models'",
        "recap.train.steps=6",
        "recap.train.batch_size=40",
        *overrides,
    ]
    return ["--config", CONFIG, *(f"--set={value}" for value in values)]


def _ranker(arguments) -> settings.Ranker:
    values = [value.removeprefix("--set=") for value in arguments[2:]]
    gin_config.load(CONFIG, values, roots=settings.ROOTS)
    return settings.Ranker()


def _raw(paths) -> dict[str, np.ndarray]:
    names = [*TASKS, *TIMES]
    spec = {name: tf.io.FixedLenFeature([], tf.int64, -1) for name in names}
    spec[DISCRETE] = tf.io.FixedLenFeature([6], tf.int64)
    records = list(tf.data.TFRecordDataset(list(paths), "GZIP").as_numpy_iterator())
    return {k: v.numpy() for k, v in tf.io.parse_example(records, spec).items()}


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """A trained run: (its folder, its arguments)."""
    folder = tmp_path_factory.mktemp("log")
    arguments = _arguments(folder)
    train.main(arguments)
    return folder, arguments


def _all(records, tasks, mode=Mode.EVALUATE):
    """Everything of a set as arrays: features, labels, weights."""
    batches = list(read_batches(records, tasks, mode, 500))
    features, labels, weights = zip(*batches, strict=True)
    together = {n: np.concatenate([f[n] for f in features]) for n in features[0]}
    return together, np.concatenate(labels), np.concatenate(weights)


def test_the_log_lies_in_a_folder_a_day(log):
    folder, arguments = log
    days = sorted(
        str(p.parent.relative_to(folder / "data" / "train"))
        for p in (folder / "data" / "train").rglob("*.gz")
    )
    assert days == [f"2026/03/{day:02d}" for day in range(1, 15)]
    assert [p.split("/")[-2] for p in _ranker(arguments).train_data.paths()] == [
        *("08", "09", "10", "11", "12", "13", "14")
    ]
    for day, path in enumerate(sorted((folder / "data" / "train").rglob("*.gz"))):
        served = _raw([str(path)])["meta.served_ms"]
        start = 1772323200000 + day * 24 * HOUR  # 2026/03/01 in UTC
        assert np.all((served >= start) & (served < start + 24 * HOUR))


def test_engagements_that_came_late_do_not_count(log):
    folder, arguments = log
    ranker = _ranker(arguments)
    [validation] = ranker.validation_sets
    raw = _raw(validation.records.paths())
    _, labels, _ = _all(validation.records, ranker.tasks)
    manifest = json.loads((folder / "data" / "synthetic.json").read_text())
    for i, (task, engaged) in enumerate(zip(TASKS, TIMES[2:], strict=True)):
        served, impressed = raw[TIMES[0]], raw[TIMES[1]]
        in_time = (impressed - served < 3 * HOUR) & (raw[engaged] - served < 3 * HOUR)
        np.testing.assert_array_equal(labels[:, i], raw[task] * in_time)
        # A record has the time of an engagement if and only if there was one.
        np.testing.assert_array_equal(raw[engaged] >= 0, raw[task] == 1)
        made = manifest["sets"]["validation"]["tasks"][task]
        assert labels[:, i].sum() == made["positives"]
        late = raw[task].sum() - labels[:, i].sum()
        assert late / np.sum(labels[:, i] == 0) == pytest.approx(0.05, abs=0.015)
    report = json.loads((folder / "run" / "evaluation.json").read_text())
    reported = report["sets"]["validation"][TASKS[0]]["positives"]
    assert reported == manifest["sets"]["validation"]["tasks"][TASKS[0]]["positives"]


def test_a_slice_by_the_extracted_position(log):
    folder, arguments = log
    [validation] = _ranker(arguments).validation_sets
    top = int(np.sum(_raw(validation.records.paths())[DISCRETE][:, 5] < 3))
    report = json.loads((folder / "run" / "evaluation.json").read_text())
    assert 0 < top < 2000
    assert top in _numbers(report)


def _numbers(report) -> set[float]:
    if isinstance(report, dict):
        return set().union(*map(_numbers, report.values()))
    return {report} if isinstance(report, float | int) else set()


def test_evaluate_says_the_same_again(log, tmp_path):
    folder, arguments = log
    out = tmp_path / "metrics.json"
    checkpoint = ["--checkpoint", str(folder / "run"), "--json", str(out)]
    evaluate.main([*arguments, *checkpoint])
    before = json.loads((folder / "run" / "evaluation.json").read_text())
    assert json.loads(out.read_text()) == before


def test_training_batches_are_downsampled_masked_and_extracted(log):
    _, arguments = log
    ranker = _ranker(arguments)
    batches = read_batches(ranker.train_data, ranker.tasks, Mode.TRAIN, 40)
    features, labels, weights = next(iter(batches))
    assert all(
        part.shape.is_fully_defined() and part.shape[0] == 40
        for part in tf.nest.flatten(batches.element_spec)
    )
    assert set(features) == {
        *("continuous", "binary", "discrete", "position"),
        *("user_embedding", "user_eng_embedding", "author_embedding"),
    }
    positive = np.any(labels.numpy() == 1, axis=1)
    assert 0 < positive.sum() < 40
    # Positives, by the labels as they were read, come first; rectified ones and the
    # negatives that were kept carry the weight of those that were not.
    np.testing.assert_allclose(np.sum(weights, axis=0), 80.0, rtol=1e-5)
    bits = features["continuous"].numpy().view(np.uint32) & 0xFFFF
    assert not bits.any()
    assert features["continuous"].shape == (40, 60)
    np.testing.assert_array_equal(features["position"], features["discrete"][:, 5])
    assert features["position"].numpy().max() < 30


def test_the_served_model_knows_neither_times_nor_positions(log):
    folder, arguments = log
    loaded = tf.saved_model.load(str(folder / "models" / "1"))
    dense = loaded.signatures["serving_default"]
    taken = set(dense.structured_input_signature[1])
    assert taken == set(_ranker(arguments).train_data.features.values())
    [validation] = _ranker(arguments).validation_sets
    dataset = tf.data.TFRecordDataset(validation.records.paths(), "GZIP")
    serialized = next(iter(dataset.batch(50)))
    examples = loaded.signatures["serve_examples"](examples=serialized)
    spec = dense.structured_input_signature[1]
    parsed = tf.io.parse_example(
        serialized,
        {
            name: tf.io.FixedLenFeature(
                spec[own].shape[1:],
                spec[own].dtype,
                tf.zeros(spec[own].shape[1:], spec[own].dtype),
            )
            for name, own in validation.records.features.items()
        },
    )
    features = {own: parsed[n] for n, own in validation.records.features.items()}
    expected = dense(**features)["logits"]
    np.testing.assert_allclose(expected, examples["logits"], atol=1e-5)
    # Any position, and any of the masked bits, gives the same scores.
    discrete = features["discrete"].numpy()
    discrete[:, 5] = 29 - discrete[:, 5]
    bits = features["continuous"].numpy().view(np.uint32) | 0x00FF
    finite = np.isfinite(features["continuous"])
    noisy = np.where(finite, bits.view(np.float32), features["continuous"])
    moved = features | {"discrete": discrete, "continuous": noisy}
    assert np.any(noisy[finite] != features["continuous"].numpy()[finite])
    np.testing.assert_array_equal(dense(**moved)["logits"], expected)


def test_a_time_that_the_config_lists_stays_a_feature(log):
    _, arguments = log
    listed = [*arguments, "--set=Records.extra_features=['meta.served_ms']"]
    ranker = _ranker(listed)
    features, labels, _ = _all(ranker.validation_sets[0].records, ranker.tasks)
    assert features["meta.served_ms"].shape == (2000, 1)
    assert "meta.impressed_ms" not in features
    plain = _ranker(arguments)
    _, same, _ = _all(plain.validation_sets[0].records, plain.tasks)
    np.testing.assert_array_equal(labels, same)
    specs = record_batches.raw_feature_specs(ranker.train_data)
    assert specs.keys() - set(TIMES) == set(plain.train_data.features.values())
    assert specs.keys() & set(TIMES) == {"meta.served_ms"}


def _complaint(arguments) -> str:
    with pytest.raises(Exception) as caught:
        train.main(arguments)
    line = user_message(caught.value)
    assert line is not None and "\n" not in line
    return line


def test_a_missing_day_is_tolerated_and_two_are_not(log, tmp_path):
    folder, _ = log
    shutil.copytree(folder / "data", tmp_path / "data")
    days = tmp_path / "data" / "train" / "2026" / "03"
    shutil.rmtree(days / "12")
    arguments = _arguments(tmp_path)
    assert len(_ranker(arguments).train_data.paths()) == 6
    (days / "14" / next((days / "14").iterdir()).name).unlink()
    expected = (
        f"DatedFolders: 2 of 7 days below {tmp_path}/data/train are missing or empty, "
        f"1 tolerated. The first is {days}/12."
    )
    assert _complaint(arguments) == expected
    assert not (tmp_path / "run" / "checkpoints").exists()


FAVORITED = "recap.engagement.is_favorited"


@pytest.mark.parametrize(
    "override, expected",
    [
        ("DatedFolders.end='2026-03-14'", "DatedFolders.end must be YYYY/MM/DD or"),
        ("DatedFolders.missing=-1", "DatedFolders.missing must be at least 0"),
        ("DatedFolders.root='/nowhere'", "7 of 7 days below /nowhere are missing"),
        (
            "DownsampleNegatives.engagements=['liek']",
            "DownsampleNegatives.engagements names the task 'liek', which is not in",
        ),
        (
            "RectifyLabels.engaged={'liek': 'meta.favorited_ms'}",
            "RectifyLabels.engaged names the task 'liek', which is not in",
        ),
        ("RectifyLabels.served='meta.servd_ms'", "Feature 'meta.servd_ms' is not in"),
        (
            f"RectifyLabels.engaged={{'{FAVORITED}': 'meta.user_embeddings'}}",
            "Feature 'meta.user_embeddings' is not in the schema",
        ),
        (
            f"RectifyLabels.impressed='{DISCRETE}'",
            f"takes the feature '{DISCRETE}' for a time in ms, one int64. Received: "
            "int64 of shape (40, 6)",
        ),
        ("RectifyLabels.window_hours=0.0", "window_hours must be above 0"),
        (
            "ExtractFeatures.columns={'position': ('discrete', 6)}",
            "ExtractFeatures.columns['position']: `discrete` has 6 columns. Received: "
            "column 6",
        ),
        (
            "PositionDebias.position_feature_index=1",
            "position_feature_index must be below the 1 columns of `position`",
        ),
        (
            "PositionDebias.feature='place'",
            "RankingModel.position_debias looks up `place`, which is not among the",
        ),
        (
            "Records.masked_mantissa_bits={'contnuous': 16}",
            "Records.masked_mantissa_bits names the feature 'contnuous'",
        ),
        (
            "Records.masked_mantissa_bits={'discrete': 16}",
            "masked_mantissa_bits['discrete'] must be a feature of floats. Received: i",
        ),
    ],
    ids=lambda value: value.split("=")[0].split(".")[-1],
)
def test_one_line_for_a_wrong_setting(log, tmp_path, override, expected):
    folder, _ = log
    arguments = _arguments(folder, f"recap.train.save_dir='{tmp_path}/run'", override)
    assert expected in _complaint(arguments)
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.parametrize(
    "override, expected",
    [
        ("SyntheticLog.end='yesterday'", "SyntheticLog.end must be YYYY/MM/DD or"),
        ("SyntheticLog.length=15", "at least the 15 folders of SyntheticLog.length"),
        ("SyntheticLog.served=None", "SyntheticLog.engaged needs SyntheticLog.served"),
        ("SyntheticLog.window_hours=0.0", "SyntheticLog.window_hours must be above 0"),
        ("SyntheticLog.late_share=2.0", "SyntheticLog.late_share must be in [0, 1]"),
        ("SyntheticLog.examination=-1.0", "examination must be at least 0"),
        (
            "SyntheticLog.engaged={'liek': 'meta.favorited_ms'}",
            "SyntheticLog.engaged names the task 'liek'",
        ),
        (
            "SyntheticLog.position_column=6",
            "SyntheticLog.position must be column 6 of an int64_list",
        ),
        (
            f"SyntheticLog.served='{DISCRETE}'",
            f"The time '{DISCRETE}' must be one int64",
        ),
    ],
    ids=lambda value: value.split("=")[0].split(".")[-1],
)
def test_one_line_for_an_impossible_log(tmp_path, override, expected):
    assert expected in _complaint(_arguments(tmp_path, override))
    assert not (tmp_path / "data").exists()


# --- On data by hand ------------------------------------------------------------------

SMALL = """
include "recap_tf/tabular.gin"
recap.ranker.tasks = ["like"]
Records.schema = "{here}/schema.json"
Records.features = {"numbers": "continuous", "place": "discrete"}
train/Records.files = "{here}/train-*"
recap.ranker.validation_sets = [@validation/ValidationSet()]
validation/Records.files = "{here}/validation-*"
recap.train.early_stopping = None
recap.train.evaluate_every = None
RankingModel.small_embeddings = None
RankingModel.preprocessor = @Log1pAbs
RankingModel.sharing = "share_none"
RankingModel.backbone = None
tower/MLP.layer_sizes = [1]
RankingModel.affine_map = (1.0, -3.5)
tower/MLP.dropout = 0.0
grouped_optimizer.learning_rates = @LinearRampToCosine()
LinearRampToCosine.learning_rate = 2e-2
LinearRampToCosine.ramp_steps = 10
LinearRampToCosine.final_learning_rate = 1e-4
LinearRampToCosine.final_steps = 150
recap.train.save_dir = "{here}/run"
recap.train.batch_size = 128
recap.train.steps = 150
"""


def _write_small(folder, **sets) -> str:
    for name, arrays in sets.items():
        with tf.io.TFRecordWriter(str(folder / f"{name}-0"), "GZIP") as writer:
            for record in serialize_examples(arrays):
                writer.write(record)
    entries = [
        {"feature_name": "numbers", "dtype": "float_list", "length": 4},
        {"feature_name": "place", "dtype": "int64_list", "length": 1},
        {"feature_name": "like", "dtype": "int64_list", "length": 1},
    ]
    (folder / "schema.json").write_text(json.dumps({"schema": entries}))
    (folder / "small.gin").write_text(SMALL)
    return str(folder / "small.gin")


def _likes(count: int, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 4)).astype(np.float32)
    chance = 1 / (1 + np.exp(5 - x @ [1.5, -1.0, 0.5, 0.0]))
    like = (rng.random(count) < chance).astype(int)
    return {"numbers": x, "place": rng.integers(0, 9, count), "like": like}


def test_training_on_a_tenth_of_the_negatives_keeps_auroc_and_calibration(tmp_path):
    path = _write_small(tmp_path, train=_likes(20_000, 1), validation=_likes(20_000, 2))

    def result(*overrides):
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        train.main(["--config", path, *(f"--set={value}" for value in overrides)])
        report = json.loads((tmp_path / "run" / "evaluation.json").read_text())
        return report["sets"]["validation"]["like"]

    all_of_them = result("recap.train.batch_size=1280")
    down = result(
        "train/Records.preprocess=[@DownsampleNegatives()]",
        "DownsampleNegatives.batch_multiplier=10",
        "DownsampleNegatives.engagements=['like']",
    )
    assert all_of_them["auroc"] > 0.8
    assert down["auroc"] == pytest.approx(all_of_them["auroc"], abs=0.01)
    assert down["calibration"] == pytest.approx(1.0, abs=0.15)
    assert all_of_them["calibration"] == pytest.approx(1.0, abs=0.15)


def test_a_negative_position_in_the_data(tmp_path):
    data = _likes(128, 1)
    data["place"][3] = -2
    path = _write_small(tmp_path, train=data, validation=_likes(8, 2))
    line = _complaint(
        [*("--config", path), "--set=RankingModel.position_debias=@PositionDebias"]
    )
    assert line.startswith("PositionDebias: positions are counted from 0; negative one")
    assert "column 0 of `discrete`" in line and "-2" in line


def test_downsampling_takes_sparse_features_along(tmp_path):
    tags = [np.arange(i % 3) + i for i in range(12)]
    schema = [
        {"feature_name": "tags", "dtype": "int64_list", "length": -1},
        {"feature_name": "like", "dtype": "int64_list", "length": 1},
    ]
    (tmp_path / "schema.json").write_text(json.dumps({"schema": schema}))
    like = (np.arange(12) == 7).astype(int)
    with tf.io.TFRecordWriter(str(tmp_path / "a.gz"), "GZIP") as writer:
        for record in serialize_examples({"tags": tags, "like": like}):
            writer.write(record)
    records = Records(
        schema=str(tmp_path / "schema.json"),
        files=str(tmp_path / "a.gz"),
        features={"tags": "tags"},
        preprocess=[DownsampleNegatives(batch_multiplier=4, engagements=["like"])],
        shuffle_size=1,
    )
    features, labels, weights = next(
        iter(read_batches(records, ["like"], Mode.TRAIN, 3))
    )
    found = tf.RaggedTensor.from_sparse(features["tags"]).to_list()
    assert found == [tags[7].tolist(), tags[0].tolist(), tags[1].tolist()]
    np.testing.assert_array_equal(labels[:, 0], [1, 0, 0])
    np.testing.assert_allclose(weights[:, 0], [1.0, 5.5, 5.5])
    (spec,) = record_batches.raw_feature_specs(records).values()
    assert isinstance(spec, tf.SparseTensorSpec)
