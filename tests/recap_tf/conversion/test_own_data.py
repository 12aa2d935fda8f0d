"""From a table of one's own to a trained, exported ranker, whatever its columns."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recap_tf import convert, train

ROWS = 600


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    rng = np.random.default_rng(3)
    city = rng.choice(["Rome", "Oslo"], ROWS)
    columns = {
        "user_id": rng.integers(0, 20, ROWS),
        "city": city,
        "age": rng.normal(40, 9, ROWS),
        "vector": [rng.normal(size=4).tolist() for _ in range(ROWS)],
        "click": (rng.random(ROWS) < np.where(city == "Oslo", 0.9, 0.1)).astype(int),
    }
    path = tmp_path_factory.mktemp("table") / "impressions.parquet"
    pq.write_table(pa.table(columns), path)
    return path


@pytest.mark.parametrize(
    "flags",
    [
        [
            *("--ids", "city,user_id", "--numeric", "age"),
            *("--validation-share", "0.2", "--group", "user_id"),
        ],
        ["--ids", "city", "--numeric", "", "--exclude", "age,vector"],
        ["--ids", "", "--numeric", "age", "--embeddings", "user_embedding=vector"],
    ],
    ids=["both, with validation", "ids alone", "numbers and vectors"],
)
def test_a_converted_table_trains_as_it_is(table, tmp_path, flags):
    convert.main(
        [
            *("--input", str(table), "--out", str(tmp_path / "data")),
            *("--labels", "click"),
            *flags,
        ]
    )
    train.main(
        [
            *("--config", str(tmp_path / "data" / "ranker.gin")),
            "--set=recap.train.steps=20",
            "--set=recap.train.batch_size=100",
            "--set=recap.train.evaluate_every=10",
            f"--set=recap.export.folder='{tmp_path}/models'",
        ]
    )
    assert (tmp_path / "models/1/saved_model.pb").exists()
    report = json.loads((tmp_path / "data/run/evaluation.json").read_text())
    if "--validation-share" in flags:
        assert report["sets"]["validation"]["click"]["examples"] == 0.2 * ROWS
        assert report["sets"]["validation"]["click"]["auroc"] > 0.8
        assert report["sets"]["validation"]["click"]["gauc"] > 0.8
    else:
        assert report["sets"] == {}
