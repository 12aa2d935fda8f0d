"""The load test: what its command says of a server, and what it refuses."""

import json
import os
import time

import numpy as np
import pytest
import tensorflow as tf
from load_fakes import Fake, made_load, made_outcome
from tensorflow_serving.apis import predict_pb2

from serving import loadtest
from serving.client import Client
from serving.command import UserError
from serving.predict_messages import predict_request
from serving.tools import load_report, request_pool
from serving.tools.capacity import LoadLimits, find_capacity
from serving.tools.memory_log import MemoryLog, resident_bytes
from serving.tools.offered_load import OfferedLoad, parse_sizes
from serving.tools.recording import Recorder


def test_percentiles_are_of_answered_requests():
    outcome = made_outcome(
        [1, 2, 3, 10, 1000], ["OK"] * 4 + ["INTERNAL"], rows=np.array([1, 1, 9, 9, 9])
    )
    latencies = outcome.percentiles()
    assert (latencies["p50"], latencies["max"], latencies["mean"]) == (2.5, 10, 4)
    # Nine tenths of the way through the three gaps: 0.7 of the last one, of 7 ms.
    assert latencies["p90"] == pytest.approx(3 + 0.7 * 7)
    assert outcome.percentiles(9)["p50"] == 6.5
    assert outcome.percentiles(5) == {}


def test_answers_after_the_end_are_no_throughput():
    outcome = made_outcome([100, 600], intended=[0.2, 0.5], rows=np.array([3, 50]))
    assert outcome.throughput() == (1.0, 3.0)
    # One of the warm-up that was answered within the time does count.
    outcome = made_outcome([100], intended=[0.2], carried_over=np.array([7]))
    assert outcome.throughput() == (2.0, 8.0)


@pytest.mark.parametrize(
    "change, is_late",
    [
        ({}, False),
        ({"lag": [0.02] * 3}, True),
        # A tenth of the latency does not change the picture.
        ({"lag": [0.004] * 3}, False),
        ({"cpu_shares": [0.5, 0.95]}, True),
        ({"codes": ["OK", "OK", "NOT_SENT"]}, True),
        # A closed loop has no times to keep.
        ({"lag": [0.02] * 3, "load": made_load(callers=3)}, False),
    ],
)
def test_when_the_client_is_the_bottleneck(change, is_late):
    change = {k: np.array(v) if k == "lag" else v for k, v in change.items()}
    assert made_outcome([50, 50, 50], **change).client_was_the_bottleneck() is is_late


def test_the_clients_lag_is_that_at_the_99th_percentile():
    # Of 101 requests, the one before last.
    lag = np.array([0.0] * 99 + [0.002, 0.5])
    assert made_outcome([5] * 101, lag=lag).lag_ms() == pytest.approx(2.0)


def test_every_process_has_times_of_its_own():
    shares = [
        *OfferedLoad(rate=6.0, processes=3).shares(),
        *OfferedLoad(rate=6.0, seed=1).shares(),
    ]
    assert len({share.seed for share in shares}) == 5
    assert [share.rate for share in shares] == [2.0, 2.0, 2.0, 3.0, 3.0]
    shares = OfferedLoad(callers=5, processes=3).shares()
    assert [share.callers for share in shares] == [2, 2, 1]


def test_limits():
    outcome = made_outcome([10] * 9 + [50], ["OK"] * 9 + ["INTERNAL"])
    assert LoadLimits(p99_ms=10.5, error_share=0.1).missed(outcome) == []
    (line,) = LoadLimits(p99_ms=10.5).missed(outcome)
    assert line == "10.0000% of the requests failed, more than 0.0000%"
    (line,) = LoadLimits(p99_ms=9, error_share=0.2).missed(outcome)
    assert line == "p99 is 10.0 ms, more than 9 ms"


def test_limits_are_kept_where_the_server_keeps_up():
    assert LoadLimits().are_kept(made_outcome([10] * 10))
    late = made_outcome([10] * 80 + [1200] * 20)
    assert not LoadLimits().are_kept(late)
    assert LoadLimits(answered_share=0.8).are_kept(late)
    assert LoadLimits().are_kept(made_outcome([10] + [1200] * 3))


@pytest.mark.parametrize("true", [3.0, 97.0, 100.0, 750.0])
def test_capacity_is_found(true):
    asked = []

    def is_within_limits(rate):
        asked.append(rate)
        return rate <= true

    capacity = find_capacity(is_within_limits, 100.0)
    assert 0.94 * true <= capacity <= true
    assert len(asked) < 16
    assert capacity in asked


def test_capacity_that_is_nothing_is_said():
    with pytest.raises(
        UserError, match=r"does not keep its limits at .* requests/s: give a lower"
    ):
        find_capacity(lambda rate: False, 100.0)


def test_memory_is_followed():
    before = resident_bytes(os.getpid())
    # Written to, so that it is resident.
    hold = np.ones(32 << 20)
    assert resident_bytes(os.getpid()) - before > 0.7 * hold.nbytes
    with MemoryLog(os.getpid(), every_seconds=0.01) as log:
        time.sleep(0.2)
    assert len(log.megabytes) == len(log.seconds) > 1
    assert log.megabytes[0] > hold.nbytes / 2**20
    # The first quarter does not count, nor do requests that come and go: tenth
    # percentiles of 11 values are the second lowest ones.
    quiet, busy = [[7, 10] + [1000] * 9, [11, 14] + [3000] * 9]
    log.megabytes = [0] * 11 + quiet + [999] * 11 + busy
    assert log.growth() == 4.0
    with pytest.raises(UserError, match="--server-pid 99999999 is not a process"):
        MemoryLog(99999999)


@pytest.mark.parametrize(
    "text, found",
    [("5", {5: 1.0}), ("1:3,1500:0.5,7", {1: 3.0, 1500: 0.5, 7: 1.0})],
)
def test_sizes(text, found):
    assert parse_sizes(text) == found


@pytest.mark.parametrize("text", ["", "0", "-1", "a", "1:0", "1:-1", "1,1", "1:inf"])
def test_sizes_that_are_refused(text):
    with pytest.raises(UserError, match=r"--sizes must be ROWS or ROWS:WEIGHT.*Rec"):
        parse_sizes(text)


@pytest.mark.parametrize(
    "settings, text",
    [
        ({}, "--rate and --callers: give one. Received: None and 0"),
        ({"rate": 1.0, "callers": 1}, "--rate and --callers: give one. Received: 1.0"),
        ({"rate": 0.0}, "--rate must be positive. Received: 0.0"),
        ({"rate": 1.0, "seconds": 0}, "--seconds must be positive. Received: 0"),
        ({"rate": 1.0, "warmup_seconds": -1}, "--warmup-seconds must not be negative"),
        ({"rate": 1.0, "processes": 0}, "--processes must be positive. Received: 0"),
        ({"callers": 1, "processes": 2}, "--callers must be at least --processes, 2"),
    ],
)
def test_loads_that_are_refused(settings, text):
    with pytest.raises(UserError, match=text):
        OfferedLoad(**settings)


def test_requests_are_drawn_from_files_or_made_up(small_server, tmp_path):
    with tf.io.TFRecordWriter(str(tmp_path / "examples")) as writer:
        writer.write(b"")
    with Client(small_server) as client:
        made = request_pool.sized_pool(
            client, "small", "serving_default", {1: 1.0, 30: 3.0}
        )
        request_pool.try_out(client, made)
        drawn = request_pool.sized_pool(
            client,
            "small",
            "serve_examples",
            {2: 1.0},
            examples=str(tmp_path / "examples"),
        )
        with pytest.raises(UserError, match="takes strings, which cannot be made up"):
            request_pool.sized_pool(client, "small", "ragged", {1: 1.0})
        # Refused before it is sent a thousand times.
        with pytest.raises(Exception, match="INVALID_ARGUMENT"):
            request_pool.try_out(client, drawn)
    assert set(made.rows.tolist()) == {1, 30}
    assert made.probabilities[made.rows == 30].sum() == pytest.approx(0.75)
    assert len(set(made.messages)) == len(made.messages)
    request = predict_pb2.PredictRequest.FromString(drawn.messages[0])
    assert list(request.inputs["examples"].string_val) == [b"", b""]


def test_recorded_requests_are_sent_to_the_model_that_is_named(tmp_path):
    path = str(tmp_path / "log")
    with Recorder(path) as log:
        for size in (3, 4):
            request = predict_request("old", {"x": np.zeros([size, 2])}, version=7)
            log.write(request)
    pool = request_pool.recorded_pool([path], "new")
    assert pool.rows.tolist() == [3, 4]
    spec = predict_pb2.PredictRequest.FromString(pool.messages[0]).model_spec
    assert (spec.name, spec.HasField("version")) == ("new", False)


def test_the_command(small_server, tmp_path, capsys):
    flags = [
        f"--server={small_server}",
        "--model=small",
        "--sizes=1:2,20",
        "--seconds=0.5",
        "--warmup-seconds=0.2",
        "--processes=1",
    ]
    out = [f"--json={tmp_path / 'a.json'}", f"--plot={tmp_path / 'a.png'}"]
    pid = ["--growth-mb=1000", f"--server-pid={os.getpid()}"]
    assert loadtest.main([*flags, "--rate=60", "--p99-ms=5000", *out, *pid]) == 0
    report = json.loads((tmp_path / "a.json").read_text())
    assert report["errors"] == {} and report["limits_missed"] == []
    assert report["requests"] == pytest.approx(30, abs=20)
    assert report["offered_per_second"] == report["requests"] / 0.5
    assert set(report["latency_ms_by_rows"]) == {"1", "20"}
    sizes = report["bytes_per_request"]
    assert sizes["20"] - sizes["1"] == pytest.approx(19 * 12, abs=4)
    assert report["memory"]["megabytes"][0] > 50
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    said = capsys.readouterr().out
    assert "errors        none" in said and "  of 20 " in said
    # A limit that no server keeps.
    assert loadtest.main([*flags, "--callers=2", "--p99-ms=0.001"]) == 1
    assert "MISSED        p99 is" in capsys.readouterr().out


def test_the_command_finds_the_capacity(tmp_path, capsys):
    # One thread that takes 20 ms answers less than 50 requests/s.
    with Fake(lambda number: time.sleep(0.02), threads=1) as fake:
        with Recorder(str(tmp_path / "log")) as log:
            log.write(predict_request("m", {"x": np.zeros([1, 1])}))
        flags = ["--rate=5", "--seconds=0.5", "--warmup-seconds=0", "--processes=1"]
        path = tmp_path / "found.json"
        code = loadtest.main(
            [
                f"--server={fake.connection.target}",
                "--model=m",
                f"--requests={tmp_path / 'log'}",
                "--find-capacity",
                "--step-seconds=1",
                "--precision=0.5",
                "--of-capacity=0.5",
                "--p99-ms=300",
                f"--json={path}",
                *flags,
            ]
        )
    report = json.loads(path.read_text())
    capacity = report["capacity"]["requests_per_second"]
    assert 0 < capacity < 80
    assert report["load"]["rate"] == capacity / 2
    assert code in (0, 1)
    assert {step["within_limits"] for step in report["capacity"]["steps"]} == {
        True,
        False,
    }


@pytest.mark.parametrize(
    "flags, text",
    [
        (["--callers=4", "--find-capacity"], "--find-capacity needs --rate, the first"),
        (["--rate=1", "--growth-mb=1"], "--growth-mb needs --server-pid"),
        (["--rate=1", "--step-seconds=0"], "--step-seconds must be positive. Received"),
        (["--rate=1", "--error-share=2"], r"--error-share must be in \[0, 1\]. Receiv"),
        (["--rate=1", "--server=nowhere"], "address must be HOST:PORT or unix:PATH"),
        (["--rate=1", "--signature=no"], "--signature 'no' must be one of"),
        # An empty variable of a script must not turn into made-up rows.
        (["--rate=1", "--examples="], "'' matches no file"),
    ],
)
def test_flags_that_are_refused(small_server, flags, text):
    with pytest.raises(UserError, match=text):
        loadtest.main([f"--server={small_server}", "--model=small", *flags])


def test_the_chart_of_failures_only_is_drawn(tmp_path):
    outcome = made_outcome([np.nan, np.nan], ["NOT_SENT", "NOT_SENT"])
    load_report.write_chart(str(tmp_path / "a.png"), outcome, None)
    assert (tmp_path / "a.png").exists()
    text = load_report.as_text(load_report.as_json(outcome, None))
    assert "latency, ms   none" in text
    assert "errors        NOT_SENT 2" in text
