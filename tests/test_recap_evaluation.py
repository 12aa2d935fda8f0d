"""The evaluation report, as a table and as JSON."""

import json
import math

import numpy as np
import pytest
import tensorflow as tf

from recap_tf import input as records_input
from recap_tf.evaluation import METRICS, Evaluator, as_json, format_table
from recap_tf.features import Log1pAbs
from recap_tf.input import Records
from recap_tf.mlp import MLP
from recap_tf.model import RankingModel, create_ranking_model
from recap_tf.record_writer import serialize_examples
from recap_tf.schema import Feature, write_schema
from recap_tf.validation_sets import EvaluateSettings, ValidationSet


def _values(**given):
    return dict.fromkeys(METRICS, 0.5) | given


def test_the_table_shows_every_set_and_task_and_a_dash_for_no_value():
    report = {
        "validation": {
            "recap.engagement.like": _values(auroc=0.75, examples=12345.0),
            "recap.engagement.reply": _values(auroc=math.nan),
        },
        "like": {"recap.engagement.like": _values()},
    }
    header, first, second, third = format_table(report).splitlines()
    assert header.split() == ["set", "task", *METRICS]
    assert first.split()[:3] == ["validation", "like", "12,345"]
    assert first.split()[2 + list(METRICS).index("auroc")] == "0.7500"
    assert second.split()[2 + list(METRICS).index("auroc")] == "-"
    assert third.split()[:2] == ["like", "like"]


def test_names_without_a_common_prefix_stay_whole():
    table = format_table({"v": {"a.like": _values(), "b.like": _values()}})
    assert "a.like" in table and "b.like" in table


def test_json_has_null_for_no_value():
    report = {"v": {"like": _values(auroc=math.nan, rce=1.5)}}
    written = json.loads(json.dumps(as_json(7, report)))
    assert written["step"] == 7
    assert written["sets"]["v"]["like"]["auroc"] is None
    assert written["sets"]["v"]["like"]["rce"] == 1.5


@pytest.fixture
def records(tmp_path):
    """Ten records, every second one a like; sampling kept half of the others."""
    features = [Feature("x", "float_list", 1), Feature("like", "int64_list", 1)]
    write_schema(str(tmp_path / "schema.json"), features)
    with tf.io.TFRecordWriter(str(tmp_path / "records")) as writer:
        like = (np.arange(10) % 2)[:, np.newaxis]
        for record in serialize_examples({"x": np.ones((10, 1)), "like": like}):
            writer.write(record)
    return Records(
        schema=str(tmp_path / "schema.json"),
        files=str(tmp_path / "records"),
        features={"x": "continuous"},
        sampling_rates={"like": (1.0, 0.5)},
    )


@pytest.mark.parametrize("steps, examples", [(-1, 10), (2, 8)])
def test_metrics_are_about_the_original_traffic(records, steps, examples):
    model = create_ranking_model(
        lambda **settings: RankingModel(
            preprocessor=Log1pAbs(),
            tower=lambda: MLP([1]),
            sharing="share_none",
            **settings,
        ),
        ["like"],
        records_input.feature_specs(records),
        calibration_ratios={"like": 0.25},
    )
    for weight in model.towers["like"].weights:
        weight.assign(tf.zeros_like(weight))
    sets = [ValidationSet(name="v", records=records)]
    evaluator = Evaluator(model, sets, EvaluateSettings(batch_size=4, steps=steps))
    for _ in range(2):  # Nothing is left over from one evaluation to the next.
        values = evaluator.evaluate()["v"]["like"]
        assert values["examples"] == examples
        assert values["positives"] == examples / 2
        # One positive stands for itself, a negative for two.
        assert values["ctr"] == pytest.approx(1 / 3)
        # 0.5 with a ratio of 0.25: 0.125 / (0.5 + 0.125).
        assert values["pctr"] == pytest.approx(0.2)
        assert values["auroc"] == pytest.approx(0.5)
