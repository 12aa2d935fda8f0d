"""GetModelStatus and GetModelMetadata; versions and labels in requests."""

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from differences import row
from served import ROOT, Code, answer, fails, request
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2

from serving.client import Client

ROW = {"instances": [[0.0]]}
INITIALIZE = "__saved_model_init_op"


def _status(name: str, **spec) -> get_model_status_pb2.GetModelStatusRequest:
    asked = get_model_status_pb2.GetModelStatusRequest()
    asked.model_spec.name = name
    for key, value in spec.items():
        setattr(asked.model_spec, key, value)
    return asked


@row(
    "B1",
    tf_serving="a label in a status request is passed over: all versions come back",
    here="a label selects its version; an unknown one is INVALID_ARGUMENT",
)
def test_a_label_selects_a_status(server):
    asked = _status("half_plus_two", version_label="stable")
    found = server.models.GetModelStatus(asked, timeout=20).model_version_status
    assert [status.version for status in found] == [123]
    status, answered = server.ask("GET", "/v1/models/half_plus_two/labels/stable")
    assert status == 200
    assert [v["version"] for v in answered["model_version_status"]] == ["123"]
    asked = _status("half_plus_two", version_label="nothing")
    assert fails(server.models.GetModelStatus, asked)[0] is Code.INVALID_ARGUMENT


@row("B2", tf_serving="the status of a model without a name is NOT_FOUND")
def test_the_status_of_no_name_is_not_found(server):
    asked = get_model_status_pb2.GetModelStatusRequest()
    asked.model_spec.SetInParent()
    assert fails(server.models.GetModelStatus, asked)[0] is Code.NOT_FOUND


@row("B19", tf_serving="metadata have all signatures, __saved_model_init_op too")
def test_metadata_have_the_initializer(server):
    asked = get_model_metadata_pb2.GetModelMetadataRequest(
        metadata_field=["signature_def"]
    )
    asked.model_spec.name = "half_plus_two"
    response = server.prediction.GetModelMetadata(asked, timeout=20)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    response.metadata["signature_def"].Unpack(signatures)
    expected = {
        INITIALIZE,
        "serving_default",
        "regress_x_to_y",
        "regress_x2_to_y3",
        "classify_x_to_y",
    }
    assert set(signatures.signature_def) == expected
    _, answered = server.ask("GET", "/v1/models/half_plus_two/metadata")
    listed = answered["metadata"]["signature_def"]["signature_def"]
    assert set(listed) == expected


@row(
    "B19",
    tf_serving="__saved_model_init_op can be asked for",
    here="it is run by nobody's request",
)
def test_the_initializer_is_run_by_no_request(server):
    asked = request(None, name="half_plus_two", signature_name=INITIALIZE)
    code, message = fails(server.prediction.Predict, asked)
    assert code in (Code.FAILED_PRECONDITION, Code.INVALID_ARGUMENT)
    assert INITIALIZE in message


@row("B4", tf_serving="a version 0 that is there answers, by number and by label")
@pytest.mark.parametrize("at", ["/versions/0", "/labels/old"])
def test_version_0_answers_if_it_is_there(server, at):
    assert server.post(f"zero{at}", ROW) == (200, {"predictions": [[3.0]]})
    assert server.post("zero", ROW) == (200, {"predictions": [[2.0]]})


@row("B4", tf_serving="it answers `serving.client`")
def test_version_0_answers_our_client(server):
    with Client(f"localhost:{server.port}") as client:
        answered = client.predict("zero", {"x": np.zeros([1, 1], "f4")}, version=0)
    assert (answered.version, answered.outputs["y"].tolist()) == (0, [[3.0]])


@row("B4", tf_serving="it answers `serving.score --version 0`")
def test_version_0_scores(server, tmp_path):
    column = pa.array([[0.0]] * 5, pa.list_(pa.float32(), 1))
    pq.write_table(pa.table({"x": column}), tmp_path / "in.parquet")
    flags = {
        "server": f"localhost:{server.port}",
        "model": "zero",
        "version": 0,
        "parquet": tmp_path / "in.parquet",
        "out": tmp_path / "out.parquet",
    }
    given = [f"--{name}={value}" for name, value in flags.items()]
    done = subprocess.run(
        [sys.executable, "-m", "serving.score", *given],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == 0, done.stderr
    scored = pq.read_table(tmp_path / "out.parquet")["y"].to_pylist()
    assert np.array(scored, float).reshape(-1).tolist() == [3.0] * 5


@row(
    "B4",
    tf_serving="version 0 is version 0: NOT_FOUND if there is none",
    here="0 means the latest version if there is no version 0, as clients of other "
    "servers send it; the answer says which version it is",
)
def test_version_0_is_the_latest_if_there_is_none(server):
    asked = request([[1.0]], name="half_plus_two", version=0)
    response = server.prediction.Predict(asked, timeout=20)
    assert (response.model_spec.version.value, answer(response)) == (124, [2.5])


@row(
    "B25",
    tf_serving='folders named "-3", "+4" and " 5" are versions',
    here="versions are named by digits alone",
)
def test_versions_are_named_by_digits(server):
    assert server.states("half_plus_two") == {123: 30, 124: 30}
