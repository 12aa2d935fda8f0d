"""Made-up data: what is in the files, and that its labels can be learned."""

import dataclasses
import json
import os
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from recap_tf import synthetic
from recap_tf.data import sampling
from recap_tf.data.schema import VARIABLE, Feature, Schema
from recap_tf.evaluation.evaluation_report import Measured
from recap_tf.synthesis.examples import ExampleSource, label_names
from recap_tf.synthesis.features import make_columns
from recap_tf.synthesis.hidden_model import fit_hidden_model, sigmoid
from recap_tf.synthesis.log import SyntheticLog, periods
from recap_tf.synthesis.record_sets import (
    SyntheticData,
    SyntheticSet,
    make_data,
    read_manifest,
)
from recap_tf.training.made_sets import reached_lines

CONFIGS = pathlib.Path(__file__).parents[3] / "configs"
TASKS = ["log.is_liked", "log.is_shared"]
NATURAL = {"log.is_liked": 0.1, "log.is_shared": 0.03}
SAMPLED = {"log.is_liked": (1.0, 0.25), "log.is_shared": (0.9, 0.03)}
USED = 60
NAMES = {"counts": "continuous", "flags": "binary", "ids": "discrete"}
SCHEMA = Schema(
    [
        Feature("counts", "float_list", 100),
        Feature("flags", "int64_list", 12),
        Feature("ids", "int64_list", 5),
        Feature("user.embeddings", "float_list", 8),
        Feature("author.embeddings", "float_list", 8),
        Feature("meta.user_id", "int64_list", 1),
        Feature("meta.post_id", "int64_list", 1),
        Feature("history", "int64_list", VARIABLE),
        Feature("language", "bytes_list", 1),
        Feature("log.is_liked", "int64_list", 1),
        Feature("log.is_hidden", "int64_list", 1),
        Feature("log.is_shared", "int64_list", 1),
    ]
)
SETS = {
    "train": SyntheticSet(examples=8001, files=3, sampling_rates=SAMPLED),
    "natural": SyntheticSet(examples=8000, files=1, sampling_rates={}),
}


def settings(folder, **changes) -> SyntheticData:
    return SyntheticData(
        folder=str(folder),
        natural_rates=NATURAL,
        candidates=(2, 5),
        used_columns={"continuous": USED, "binary": 8},
        vocabulary_size=20,
        **changes,
    )


def make(folder, sets=SETS, echo=lambda text: None, **changes) -> dict:
    return make_data(settings(folder, **changes), SCHEMA, NAMES, TASKS, sets, echo)


def read(folder) -> dict[str, np.ndarray]:
    """All records of a set, in order; zeros where a feature is missing."""
    specs = {
        name: tf.io.RaggedFeature(feature.tensor_dtype)
        if feature.length == VARIABLE
        else tf.io.FixedLenFeature(
            [feature.length],
            feature.tensor_dtype,
            [b"" if feature.dtype == "bytes_list" else 0] * feature.length,
        )
        for name, feature in SCHEMA.items()
    }
    files = sorted(str(path) for path in pathlib.Path(folder).glob("*.gz"))
    records = list(tf.data.TFRecordDataset(files, "GZIP").as_numpy_iterator())
    return {k: v.numpy() for k, v in tf.io.parse_example(records, specs).items()}


def example_source(seed: int = 1) -> ExampleSource:
    rates = {name: NATURAL.get(name, 0.02) for name in label_names(SCHEMA, TASKS)}
    used = {"continuous": USED, "binary": 8}
    columns = make_columns(SCHEMA, NAMES, rates, used, 20, seed)
    return ExampleSource(
        order=list(SCHEMA),
        labels=list(rates),
        columns=columns,
        model=fit_hidden_model(columns, rates, seed),
        candidates=(2, 5),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("made") / "data"
    make(folder)
    return folder


@pytest.fixture(scope="module")
def manifest(folder) -> dict:
    return read_manifest(str(folder))


@pytest.fixture(scope="module")
def records(folder) -> dict:
    return {name: read(folder / name) for name in SETS}


def test_counts_of_examples_and_files_are_kept(folder):
    files = sorted((folder / "train").iterdir())
    assert [file.name for file in files] == [
        f"part-0000{i}-of-00003.tfrecord.gz" for i in range(3)
    ]
    counts = [
        sum(1 for _ in tf.data.TFRecordDataset(str(file), "GZIP")) for file in files
    ]
    assert counts == [2667, 2667, 2667]


def test_labels_are_the_tasks_and_their_siblings():
    assert label_names(SCHEMA, TASKS) == [
        *("log.is_liked", "log.is_hidden", "log.is_shared")
    ]


@pytest.mark.parametrize("cores", [1, 5])
def test_same_seed_gives_the_same_bytes(tmp_path, folder, monkeypatch, cores):
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    make(tmp_path / "again")
    for path in sorted(folder.rglob("*.*")):
        again = tmp_path / "again" / path.relative_to(folder)
        assert again.read_bytes() == path.read_bytes(), path.name


def test_another_seed_gives_other_data(tmp_path, folder):
    make(tmp_path / "other", seed=2)
    file = "natural/part-00000-of-00001.tfrecord.gz"
    assert (tmp_path / "other" / file).read_bytes() != (folder / file).read_bytes()


def test_files_differ(records):
    ids = records["train"]["meta.post_id"]
    assert len(np.unique(ids)) == len(ids)


@pytest.mark.parametrize("task", TASKS)
def test_natural_rates_hold(records, task):
    assert records["natural"][task].mean() == pytest.approx(NATURAL[task], rel=0.15)


def test_sampling_makes_positives_frequent(records, manifest):
    for task in TASKS:
        natural, sampled = (records[name][task].mean() for name in ("natural", "train"))
        assert sampled > 2 * natural
        made = manifest["sets"]["train"]["tasks"][task]
        assert made["positives"] == records["train"][task].sum()
        assert made["sampling_rates"] == list(SAMPLED[task])


def test_features_of_the_user_repeat_over_a_request(records):
    train = records["train"]
    user = train["meta.user_id"][:, 0]
    same = user[1:] == user[:-1]
    assert 0.6 < same.mean() < 0.8  # requests of 2 to 5
    counts = np.nan_to_num(train["counts"], posinf=0.0, neginf=0.0)
    of_user = np.all((counts[1:] == counts[:-1])[same], axis=0)
    assert np.sum(of_user & (counts.std(axis=0) > 0)) > 30
    assert np.sum(~of_user) > 50
    embeddings = train["user.embeddings"]
    np.testing.assert_array_equal(embeddings[1:][same], embeddings[:-1][same])
    author = train["author.embeddings"]
    assert np.mean(author[1:] == author[:-1]) < 0.05


def test_values_look_like_aggregates(records):
    counts = records["train"]["counts"]
    finite = counts[np.isfinite(counts)]
    assert 0.5 < np.mean(finite == 0) < 0.8
    assert 0 < np.mean(~np.isfinite(counts)) < 0.001
    assert np.percentile(finite[finite > 0], 99) > 10 * np.median(finite[finite > 0])
    assert set(np.unique(records["train"]["flags"])) == {0, 1}
    assert records["train"]["ids"].min() == 0
    assert records["train"]["ids"].max() < 20


@pytest.mark.parametrize("name", ["user.embeddings", "author.embeddings"])
def test_embeddings_are_missing_for_a_few_per_cent(records, name):
    missing = np.all(records["train"][name] == 0, axis=1)
    assert 0.01 < missing.mean() < 0.07


@pytest.mark.parametrize("name", SETS)
def test_best_auroc_is_that_of_the_log_odds_of_stored_values(records, manifest, name):
    source = example_source()
    logits = source.model.logits(source.columns, records[name])
    for label, scores in zip(source.labels, logits.T, strict=True):
        best = manifest["sets"][name]["tasks"][label]["best_auroc"]
        expected = roc_auc_score(records[name][label][:, 0], scores)
        assert best == pytest.approx(expected, abs=2e-6)
        assert 0.75 < best < 0.98


def test_log_odds_depend_on_used_columns_only(records):
    source = example_source()
    values = {name: rows[:50].copy() for name, rows in records["train"].items()}
    before = source.model.logits(source.columns, values)
    values["counts"][:, USED:] = 5.0
    values["flags"][:, 8:] = 1
    values["ids"] += 1
    np.testing.assert_array_equal(source.model.logits(source.columns, values), before)
    values["counts"][:, :USED] = 0.0
    assert np.abs(source.model.logits(source.columns, values) - before).max() > 0.1


def test_undoing_the_sampling_gives_the_same_probabilities_whatever_it_was():
    source = example_source()
    unsampled = []
    for rates in ({}, SAMPLED):
        (batch,) = source.draw(np.random.default_rng(3), 40, rates)
        ratios = sampling.sampling_ratios(source.labels, rates)
        ratios = np.array([ratios[label] for label in source.labels])
        unsampled.append(sampling.undo_sampling(sigmoid(batch.logits), ratios))
    np.testing.assert_allclose(unsampled[0], unsampled[1], rtol=1e-9)


@pytest.mark.parametrize("task", TASKS)
def test_log_odds_of_a_sampled_set_are_those_of_kept_records(records, task):
    positive, negative = SAMPLED[task]
    labels = records["natural"][task][:, 0]
    chance_to_stay = np.where(labels == 1, positive, negative)
    kept = np.random.default_rng(5).random(len(labels)) < chance_to_stay
    source = example_source()
    logits = source.model.logits(source.columns, records["natural"])
    logits = logits[kept, source.labels.index(task)] + np.log(positive / negative)
    assert sigmoid(logits).mean() == pytest.approx(labels[kept].mean(), rel=0.15)


def test_a_linear_model_finds_much_but_not_all(records, manifest):
    def view(values):
        counts = np.nan_to_num(values["counts"][:, :USED], posinf=0, neginf=0)
        logs = np.sign(counts) * np.log1p(np.abs(counts))
        others = ["flags", "user.embeddings", "author.embeddings"]
        return np.concatenate([logs] + [values[name] for name in others], axis=1)

    train, natural = view(records["train"]), view(records["natural"])
    mean, deviation = train.mean(0), train.std(0) + 1e-6
    for task in TASKS:
        model = LogisticRegression(C=0.01, max_iter=200)
        model.fit((train - mean) / deviation, records["train"][task][:, 0])
        scores = model.decision_function((natural - mean) / deviation)
        reached = roc_auc_score(records["natural"][task][:, 0], scores)
        best = manifest["sets"]["natural"]["tasks"][task]["best_auroc"]
        assert 0.8 < (reached - 0.5) / (best - 0.5) < 1.0


def test_complete_data_is_not_made_again(folder, manifest):
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert make(folder) == manifest
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_other_data_is_not_overwritten(folder):
    with pytest.raises(FileExistsError, match=r"other settings \(other seed\)"):
        make(folder, seed=9)


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="holds no made-up data"):
        make(tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_an_interrupt_leaves_nothing(tmp_path):
    def interrupt(text):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "data", echo=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_a_set_without_positives_has_no_best_auroc(tmp_path):
    (tmp_path / "data").mkdir()  # an empty folder is no obstacle
    said = []
    rates = {"log.is_shared": (1e-9, 1.0)}
    sets = {"none": SyntheticSet(examples=40, files=1, sampling_rates=rates)}
    manifest = make(tmp_path / "data", sets, said.append)
    assert manifest["sets"]["none"]["tasks"]["log.is_shared"]["best_auroc"] is None
    assert said == [
        "none: 40 examples in 1 files; log.is_shared: 0 positives (0.00%), best AUROC "
        "no value"
    ]


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"files": 0}, "SyntheticData.files must be at least 1"),
        ({"examples": 3, "files": 4}, "4 files for 3 examples"),
        ({"validation_files": 0}, "SyntheticData.validation_files"),
        ({"default_rate": 1.0}, r"default_rate must be in \(0, 1\). Received: 1.0"),
        ({"natural_rates": {"a": 0.0}}, r"natural_rates\['a'\] must be in"),
        ({"candidates": (3, 2)}, "1 <= fewest <= most"),
        ({"vocabulary_size": 1}, "vocabulary_size must be at least 2"),
        ({"seed": -1}, "seed must be at least 0. Received: -1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_impossible_settings(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(settings("data"), **changes)


def test_a_schema_without_signals_is_refused(tmp_path):
    schema = Schema([SCHEMA["ids"], SCHEMA["log.is_liked"]])
    with pytest.raises(ValueError, match=r"to depend on. Received: \['ids'\]"):
        make_data(settings(tmp_path / "data"), schema, {}, ["log.is_liked"], SETS)
    assert list(tmp_path.iterdir()) == []


def test_a_label_must_be_one_integer():
    schema = Schema([Feature("is_liked", "float_list", 1)], "s.json")
    with pytest.raises(ValueError, match="'is_liked' must be one int64 in s"):
        label_names(schema, ["is_liked"])


def test_the_command_makes_what_its_flags_say(tmp_path, capsys):
    arguments = f"--config {CONFIGS}/recap_tiny.gin --out {tmp_path}/made --seed 7"
    arguments += " --examples 300 --files 2 --set SyntheticData.validation_examples=60"
    synthetic.main(arguments.split())
    printed = capsys.readouterr().out
    assert "train: 300 examples in 2 files" in printed
    assert "best AUROC" in printed
    manifest = json.loads((tmp_path / "made" / "synthetic.json").read_text())
    assert manifest["settings"]["seed"] == 7
    assert len(list((tmp_path / "made" / "train").iterdir())) == 2


def test_the_released_schema():
    entries = json.loads((CONFIGS / "recap_schema.json").read_text())["schema"]
    lengths = {entry["feature_name"]: entry["length"] for entry in entries}
    assert lengths["home_recap_2022_cont__segdense_vals"] == 6000
    assert sum(name.startswith("recap.engagement.is_") for name in lengths) == 13
    assert len(lengths) == 22


def test_how_far_a_model_came_is_told_for_all_but_the_training_set():
    made = {"tasks": {"like": {"best_auroc": 0.9}, "rare": {"best_auroc": None}}}
    manifest = {"sets": {"train": made, "like": made}}
    tasks = {"like": {"auroc": Measured(0.7)}, "rare": {"auroc": Measured(0.6)}}
    values = {"all": tasks}
    [line] = reached_lines(manifest, {"train": values, "like": values, "mine": values})
    assert line.startswith("like, like: AUROC 0.7000, 50% of the way")


def test_of_one_folder_alone_nothing_is_old():
    log = SyntheticLog(end="2023/01/01", length=1, drift=30.0)
    assert [period.age for _, period in periods(log)] == [0.0, 0.0]
    log = dataclasses.replace(log, length=3)
    assert [period.age for _, period in periods(log)] == [1.0, 0.5, 0.0, 0.0]
