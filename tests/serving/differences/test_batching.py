"""Requests that are put together."""

import concurrent.futures
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from differences import row
from served import ROOT, Code, answer, fails, metric, request
from served_outside import model_config, model_configs, serving


def _rows(count: int, **spec):
    x = np.arange(count, dtype=np.float32)[:, None]
    return request(x, **{"name": "half_plus_two"} | spec)


@pytest.fixture(scope="module")
def sized(exports, monitoring, tmp_path_factory):
    """Requests of up to 8 rows, run 4 at a time."""
    folder = tmp_path_factory.mktemp("sized")
    base = exports.copy("two", folder / "half_plus_two" / "1")
    (folder / "models.config").write_text(
        model_configs(model_config("half_plus_two", base))
    )
    (folder / "batching.config").write_text(
        "max_batch_size { value: 8 } max_execution_batch_size { value: 4 } "
        "allowed_batch_sizes: 2 allowed_batch_sizes: 4 allowed_batch_sizes: 8 "
        "enable_large_batch_splitting { value: true }"
    )
    with serving(
        model_config_file=folder / "models.config",
        monitoring_config_file=monitoring,
        enable_batching=True,
        batching_parameters_file=folder / "batching.config",
    ) as server:
        yield server


@row("A8", tf_serving="BatchingParameters has max_execution_batch_size")
def test_the_parameters_have_the_size_of_an_execution(sized):
    response = sized.prediction.Predict(_rows(3), timeout=20)
    assert answer(response) == [2.0, 2.5, 3.0]


@row("A9", tf_serving="requests are split into executions of max_execution_batch_size")
def test_requests_are_split_into_executions(sized):
    def ran(suffix: str, **labels: str) -> float:
        labels = {"model_name": "half_plus_two", "signature_name": "serving_default"}
        return metric(page, f"batching:processed_batch_size_{suffix}", **labels)

    page = sized.metrics()
    rows, batches = ran("sum"), ran("count")
    response = sized.prediction.Predict(_rows(8), timeout=20)
    assert answer(response) == [2.0 + 0.5 * i for i in range(8)]
    page = sized.metrics()
    assert (ran("sum") - rows, ran("count") - batches) == (8, 2)


@row(
    "A9", tf_serving="a request larger than max_batch_size is refused, splitting or no"
)
def test_larger_requests_are_refused(sized):
    assert fails(sized.prediction.Predict, _rows(9)) == (
        Code.INVALID_ARGUMENT,
        "Task size 9 is larger than maximum input batch size 8",
    )


@row("A9", tf_serving="max_execution_batch_size is max_batch_size unless it is set")
def test_larger_requests_are_refused_without_a_size_of_executions(batching):
    assert len(answer(batching.prediction.Predict(_rows(64), timeout=20))) == 64
    assert fails(batching.prediction.Predict, _rows(65)) == (
        Code.INVALID_ARGUMENT,
        "Task size 65 is larger than maximum input batch size 64",
    )


@row("A9", tf_serving="the last of allowed_batch_sizes must be max_batch_size")
def test_what_is_deployed_takes_large_requests(exports, tmp_path):
    command = [sys.executable, "-m", "serving.deploy", "--name", "m", "--batching"]
    command += ["--models-folder", str(tmp_path), "--out", str(tmp_path / "deploy")]
    subprocess.run(command, check=True, cwd=ROOT, timeout=90)
    file = tmp_path / "deploy" / "batching.config"
    text = file.read_text()

    def value(name: str) -> int:
        return int(re.search(rf"^{name} \{{\s+value: (\d+)", text, re.M)[1])

    assert value("max_execution_batch_size") == 1536
    # The largest request is what a client sends, not what the model runs at once.
    assert value("max_batch_size") > 1536
    sizes = [int(size) for size in re.findall(r"allowed_batch_sizes: (\d+)", text)]
    assert sizes == sorted(sizes)
    assert sizes[-1] == value("max_batch_size")
    assert 1536 in sizes
    base = exports.copy("two", tmp_path / "m" / "1")
    with serving(
        model_name="half_plus_two",
        model_base_path=base,
        enable_batching=True,
        batching_parameters_file=file,
    ) as server:
        found = server.prediction.Predict(_rows(1537), timeout=60)
        assert len(answer(found)) == 1537


@row("C1", tf_serving="num_batch_threads is the number of CPUs by default")
def test_as_many_batches_run_at_once_as_there_are_cpus(batching):
    count = os.cpu_count()
    x = np.full([64, 1], count, np.float32)

    def predict(_) -> int:
        asked = request(x, name="meeting")
        response = batching.prediction.Predict(asked, timeout=60)
        return max(response.outputs["present"].int_val)

    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        present = list(pool.map(predict, range(count)))
    # Each has waited until all others had arrived.
    assert min(present) == count


@row(
    "C2",
    tf_serving="every signature goes through the batching: inputs and outputs without "
    "rows are refused",
    here="signatures without rows are run one request at a time",
)
def test_signatures_without_rows_are_run_by_themselves(batching):
    asked = request(4.0, name="odd", signature_name="scalar")
    assert answer(batching.prediction.Predict(asked, timeout=20)) == [8.0]


@row(
    "C3",
    tf_serving="requests of unequal rows that meet in one batch fail together",
    here="they wait apart, and are all answered",
)
def test_unequal_rows_are_all_answered(batching):
    def predict(width: int) -> np.ndarray:
        rows = np.full([2, width], width)
        asked = request(rows, name="odd", signature_name="same_rows")
        response = batching.prediction.Predict(asked, timeout=30)
        return tf.make_ndarray(response.outputs["y"])

    widths = [1, 2, 3] * 8
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for width, y in zip(widths, pool.map(predict, widths), strict=True):
            np.testing.assert_array_equal(y, np.full([2, width], width))


@row(
    "C4",
    tf_serving="a request whose deadline passes in the queue is not run",
    here="it is run, and nobody is told: others are answered all the same",
)
def test_callers_that_have_gone_keep_no_others(batching):
    for _ in range(16):
        batching.prediction.Predict.future(_rows(2)).cancel()
    assert len(answer(batching.prediction.Predict(_rows(2), timeout=20))) == 2
