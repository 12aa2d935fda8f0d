"""What an evaluation reads and measures."""

import dataclasses

import gin
import numpy as np
import pytest
import tensorflow as tf

from recap_tf.data import record_batches
from recap_tf.data.feature_steps import ExtractFeatures
from recap_tf.data.record_batches import Records
from recap_tf.data.record_writer import serialize_examples
from recap_tf.data.schema import Feature, write_schema
from recap_tf.evaluation.evaluation_batches import EvaluationInput
from recap_tf.evaluation.evaluator import Evaluator
from recap_tf.evaluation.slices import Slice
from recap_tf.evaluation.traced_specs import TracedSpecs
from recap_tf.evaluation.validation_sets import EvaluateSettings, ValidationSet
from recap_tf.model.mlp import MLP
from recap_tf.model.preprocessors import Log1pAbs
from recap_tf.model.ranking_model import RankingModel, create_ranking_model


@pytest.fixture(autouse=True)
def nothing_configured():
    """What a config of another test says of recap.evaluate is forgotten."""
    gin.clear_config()


@pytest.fixture
def records(tmp_path):
    """Ten records, every second one a like; sampling kept half of the others."""
    features = [
        Feature("x", "float_list", 2),
        Feature("like", "int64_list", 1),
        Feature("meta.user", "int64_list", 1),
        Feature("country", "bytes_list", 1),
        Feature("session", "bytes_list", 1),
        Feature("clicks", "int64_list", -1),
        Feature("meta.absent", "int64_list", 1),
    ]
    write_schema(str(tmp_path / "schema.json"), features)
    index = np.arange(10)[:, np.newaxis]
    arrays = {
        "x": np.concatenate([np.ones((10, 1)), index], axis=1).astype(np.float32),
        "like": index % 2,
        "meta.user": index // 5,
        "country": [[b"de"]] * 4 + [[b"fr"]] * 6,
        "session": [[f"session {i}".encode()] for i in range(10)],
    }
    with tf.io.TFRecordWriter(str(tmp_path / "records")) as writer:
        for record in serialize_examples(arrays):
            writer.write(record)
    return Records(
        schema=str(tmp_path / "schema.json"),
        files=str(tmp_path / "records"),
        features={"x": "continuous"},
        sampling_rates={"like": (1.0, 0.5)},
    )


def _model(records, logit_weight=0.0):
    model = create_ranking_model(
        lambda **settings: RankingModel(
            preprocessor=Log1pAbs(),
            tower=lambda: MLP([1]),
            sharing="share_none",
            **settings,
        ),
        ["like"],
        record_batches.feature_specs(records),
        calibration_ratios={"like": 0.25},
    )
    for weight in model.towers["like"].weights:
        weight.assign(tf.zeros_like(weight))
    kernel = model.towers["like"].weights[0]
    kernel.assign([[0.0], [logit_weight]])
    return model


def _evaluator(records, model=None, **settings):
    sets = [ValidationSet(name="v", records=records)]
    settings = EvaluateSettings(**({"batch_size": 4, "steps": -1} | settings))
    return Evaluator(model or _model(records), sets, settings)


@pytest.mark.parametrize("steps, examples", [(-1, 10), (2, 8)])
def test_metrics_are_about_the_original_traffic(records, steps, examples):
    evaluator = _evaluator(records, steps=steps)
    for _ in range(2):  # Nothing is left over from one evaluation to the next.
        values = {
            name: measured.value
            for name, measured in evaluator.evaluate()["v"]["all"]["like"].items()
        }
        assert values["examples"] == examples
        assert values["positives"] == examples / 2
        # One positive stands for itself, a negative for two.
        assert values["ctr"] == pytest.approx(1 / 3)
        # 0.5 with a ratio of 0.25: 0.125 / (0.5 + 0.125).
        assert values["pctr"] == pytest.approx(0.2)
        assert values["auroc"] == pytest.approx(0.5)


def test_slices_of_what_the_model_reads_and_of_what_it_does_not(records):
    extract = ExtractFeatures(columns={"index": ("continuous", 1)})
    records = dataclasses.replace(records, preprocess=[extract])
    slices = [
        Slice(name="late", feature="continuous", column=1, in_range=(7, None)),
        # By its name in the records, and a column made by preprocessing.
        Slice(name="early", feature="x", column=1, in_range=(0, 3)),
        Slice(name="first", feature="index", equals=0),
        Slice(name="german", feature="country", equals="de"),
        Slice(name="second_user", feature="meta.user", equals=1),
    ]
    found = _evaluator(
        records, slices=slices, which_metrics=["examples", "positives"]
    ).evaluate()["v"]
    counts = {
        part: tuple(measured.value for measured in tasks["like"].values())
        for part, tasks in found.items()
    }
    assert counts == {
        "all": (10, 5),
        "late": (3, 2),
        "early": (3, 1),
        "first": (1, 0),
        "german": (4, 2),
        "second_user": (5, 3),
    }


@pytest.fixture
def traces(monkeypatch):
    """The data sets of which the preprocessing was traced."""
    traced, feature_specs = [], record_batches.feature_specs

    def counted(records):
        traced.append(records)
        return feature_specs(records)

    monkeypatch.setattr(record_batches, "feature_specs", counted)
    return traced


@pytest.mark.parametrize("slices, expected", [((), 1), (("country",), 2)])
def test_preprocessing_is_traced_once_for_all_sets(records, traces, slices, expected):
    model = _model(records)
    traces.clear()
    specs = TracedSpecs()
    specs.of(records)  # as a trainer does
    sampled = dataclasses.replace(records, sampling_rates={})
    sets = [
        ValidationSet(name=name, records=of)
        for name, of in {"a": records, "b": sampled, "c": records}.items()
    ]
    parts = [Slice(name=name, feature=name, equals="de") for name in slices]
    settings = EvaluateSettings(batch_size=4, steps=-1, slices=parts)
    report = Evaluator(model, sets, settings, specs).evaluate()
    assert len(traces) == expected
    assert report["b"]["all"]["like"]["ctr"].value == pytest.approx(1 / 2)


def test_other_preprocessing_is_traced_for_itself(records, traces):
    specs = TracedSpecs()
    extract = ExtractFeatures(columns={"index": ("continuous", 1)})
    other = dataclasses.replace(records, preprocess=[extract])
    masked = dataclasses.replace(records, masked_mantissa_bits={"continuous": 3})
    assert set(specs.of(records)) == {"continuous"}
    assert set(specs.of(other)) == {"continuous", "index"}
    specs.of(masked)
    assert specs.of(dataclasses.replace(other, num_files_to_keep=1)) == specs.of(other)
    assert len(traces) == 3


def test_what_is_read_for_groups_is_not_for_the_model(records):
    settings = EvaluateSettings(which_metrics=["gauc"], group_feature="session")
    named = ValidationSet(name="v", records=records)
    batch = next(iter(EvaluationInput(named, settings).batches(["like"])))
    assert set(batch.features) == {"continuous"}
    assert batch.groups.dtype == tf.int64
    assert len(set(batch.groups.numpy())) == 10


@pytest.mark.parametrize("group", ["meta.user", "country"])
def test_groups_of_integers_and_of_bytes(records, group):
    model = _model(records, logit_weight=1.0)
    which = ["gauc", "hit@1"]
    found = _evaluator(
        records, model, which_metrics=which, group_feature=group, batch_size=3
    ).evaluate()["v"]["all"]["like"]
    # Scores rise with the index; negatives weigh 2, AUROC within a group does not care.
    # Users 0..4 and 5..9: likes 1, 3 of 0..4 beat 1 + 2 of 3 negatives, and 5, 7, 9
    # beat 0 + 1 + 2 of 2; weights 8 and 7. Countries 0..3 and 4..9: 1 + 2 of 2, and
    # 1 + 2 + 3 of 3; weights 6 and 9.
    expected = {
        "meta.user": (8 * 3 / 6 + 7 * 3 / 6) / 15,
        "country": (6 * 3 / 4 + 9 * 6 / 9) / 15,
    }
    assert found["gauc"].value == pytest.approx(expected[group])
    # The last of a group is on top: 4 and 9, or 3 and 9. A group weighs the mean of its
    # examples' weights.
    tops = {"meta.user": (7 / 5) / (8 / 5 + 7 / 5), "country": 1.0}
    assert found["hit@1"].value == pytest.approx(tops[group])


@pytest.mark.parametrize(
    "settings, message",
    [
        (
            {"which_metrics": ["gauc"]},
            "The metric 'gauc' needs recap.evaluate.group_feature, the feature that "
            "tells users or requests apart, which is not set. The records hold "
            "'meta.user'",
        ),
        (
            {"which_metrics": ["auroc", "ndcg@5"], "group_feature": "meta.usr"},
            "The metric 'ndcg@5' needs recap.evaluate.group_feature = 'meta.usr', "
            "which is not in the schema .*Did you mean 'meta.user'",
        ),
        (
            {"which_metrics": ["mrr"], "group_feature": "clicks"},
            "recap.evaluate.group_feature must be a feature of fixed length",
        ),
        (
            {"which_metrics": ["mrr"], "group_feature": "x"},
            "group_feature must be one integer or bytes value per record. Received: "
            "'x', 2 values of float32",
        ),
        (
            {"which_metrics": ["mrr"], "group_feature": "meta.absent"},
            "recap.evaluate.group_feature = 'meta.absent': No record holds",
        ),
        (
            {"slices": [Slice(name="s", feature="contnuous", equals=1)]},
            "Slice.feature of slice 's' = 'contnuous' is neither read nor in the "
            "schema .*Did you mean 'continuous'",
        ),
        (
            {"slices": [Slice(name="s", feature="x", column=2, equals=1)]},
            r"Slice.column of slice 's' must be in \[0, 2\), the columns of 'x'",
        ),
        (
            {"slices": [Slice(name="s", feature="meta.absent", equals=1)]},
            "Slice.feature of slice 's' = 'meta.absent': No record holds 'meta.absent'",
        ),
    ],
    ids=["unset", "unknown", "variable", "wide", "absent", "slice", "column", "empty"],
)
def test_what_cannot_be_evaluated_is_said_at_once(records, settings, message):
    with pytest.raises(ValueError, match=message):
        _evaluator(records, **settings)


@pytest.mark.parametrize(
    "settings, setting",
    [
        (
            {"slices": [Slice(name="s", feature="clicked", equals=1)]},
            "Slice.feature of slice 's'",
        ),
        (
            {"which_metrics": ["gauc"], "group_feature": "clicks"},
            "recap.evaluate.group_feature",
        ),
    ],
    ids=["slice", "group"],
)
def test_a_feature_that_the_model_reads_must_be_of_fixed_length_too(
    records, settings, setting
):
    read = {"x": "continuous", "clicks": "clicked"}
    records = dataclasses.replace(records, features=read)
    message = f"{setting} must be a feature of fixed length. Received: 'click"
    settings = EvaluateSettings(**settings)
    with pytest.raises(ValueError, match=message):
        EvaluationInput(ValidationSet(name="v", records=records), settings)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"timeout_seconds": 0}, "timeout_seconds must be above 0. Received: 0"),
        ({"which_metrics": ["gini"]}, "recap.evaluate.which_metrics names the metric"),
        (
            {"slices": [Slice(name="s", feature="x", equals=v) for v in (1, 2)]},
            "recap.evaluate.slices holds 's' more than once",
        ),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        EvaluateSettings(**settings)
