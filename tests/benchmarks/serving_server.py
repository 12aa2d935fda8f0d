"""What the server costs, beside the same SavedModel run in this process.

    python tests/benchmarks/serving_server.py --model models/recap/1

prints, for a model of any size (the README's figures are the production ranker's):

    overhead   one example over gRPC against in process, alternating, medians: asked by
               gRPC's Python client, and by h2load (Debian's nghttp2-client), which
               itself takes next to nothing: what is left is the server's
    large      1,500 candidates over gRPC against in process, examples/s
    batching   64 clients of one example each, with batching and without
    reload     load at a share of capacity, quiet, with a new version every 5 s, and
               with a version that fails every 5 s: p99 and failures, by turns

The client, this process, is on the same machine; close everything else.
"""

import argparse
import concurrent.futures
import gc
import os
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import (
    predict_pb2,
    prediction_log_pb2,
    prediction_service_pb2_grpc,
)

from serving.client import Client
from serving.freed_memory import keep_freed_memory
from serving.models.saved_model import load_saved_model
from serving.models.version_files import VersionFiles
from serving.tools.capacity import find_capacity

ROOT = pathlib.Path(__file__).parents[2]
PORT = 8610
NO_FAILURES = "no failures"
CAPACITY_P99_MS = 200
PREDICT = "tensorflow.serving.PredictionService/Predict"
PARTS = ("overhead", "large", "batching", "reload")
# No more than this many rows at once: the ranker's activations stay in the cache. Fewer
# cost as much as reading the weights does, so that it pays to wait for others; and one
# batch at a time has both cores, where two would read the weights twice.
BATCHING = """max_batch_size { value: 64 } batch_timeout_micros { value: 20000 }
num_batch_threads { value: 1 } max_enqueued_batches { value: 1000 }"""
_BLOCK = 30
"""Requests of one kind, in process or not, before those of the other."""


class Served:
    """A server of its own process with `folder` below a base path of its own.

    Args:
        folder: of a version; each is served with `warmup` as its recorded request.
    """

    def __init__(self, folder: str, *flags: str, warmup=None):
        self._warmup = warmup
        self.base = pathlib.Path(tempfile.mkdtemp(prefix="served-"))
        self.folder, self._next = folder, 1
        self.add_version()
        command = [sys.executable, "-m", "serving.server", f"--port={PORT}"]
        command += [
            f"--model_base_path={self.base}",
            "--max_num_load_retries=0",
            *flags,
        ]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen(
            command, env=environment, stderr=subprocess.DEVNULL
        )

    def add_version(self, *, fails: bool = False, other_graph: bool = False) -> None:
        aside = self.base / f"aside-{self._next}"
        shutil.copytree(self.folder, aside, copy_function=os.link)
        if other_graph:
            path = aside / "saved_model.pb"
            model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
            graph = model.meta_graphs[0].graph_def
            graph.node.add(name=f"version_{self._next}", op="NoOp")
            path.unlink()
            path.write_bytes(model.SerializeToString())
        if fails:
            for part in (aside / "variables").iterdir():
                part.unlink()
        if self._warmup is not None:
            log = prediction_log_pb2.PredictionLog()
            log.predict_log.request.CopyFrom(self._warmup)
            path = aside / "assets.extra" / "tf_serving_warmup_requests"
            path.parent.mkdir(exist_ok=True)
            path.unlink(missing_ok=True)
            with tf.io.TFRecordWriter(str(path)) as writer:
                writer.write(log.SerializeToString())
        aside.rename(self.base / str(self._next))
        self._next += 1

    def wait_until_settled(self) -> None:
        """Returns when no version is loaded or unloaded, and the next is prepared."""
        time.sleep(2)  # Until the server has looked.
        with Client(f"localhost:{PORT}", timeout_seconds=60) as client:
            while set(client.states("default").values()) - {"AVAILABLE", "END"}:
                time.sleep(0.5)
        time.sleep(10)  # No state says that a session is being made ahead.

    def stubs(self, count: int = 4) -> list:
        options = [
            ("grpc.max_send_message_length", -1),
            ("grpc.use_local_subchannel_pool", 1),
        ]
        return [
            prediction_service_pb2_grpc.PredictionServiceStub(
                grpc.insecure_channel(f"localhost:{PORT}", options)
            )
            for _ in range(count)
        ]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.terminate()
        self._process.wait()
        shutil.rmtree(self.base)


def make_inputs(signature, rows: int) -> dict[str, np.ndarray]:
    """Random inputs; unknown inner sizes are 1, strings empty examples."""
    dice, inputs = np.random.default_rng(1), {}
    for name, end in signature.inputs.items():
        shape = [rows, *(size or 1 for size in end.shape[1:])]
        if end.dtype == tf.string:
            inputs[name] = np.full(shape, b"", object)
        elif end.dtype.is_floating:
            inputs[name] = dice.normal(size=shape).astype(end.dtype.as_numpy_dtype)
        else:
            inputs[name] = np.zeros(shape, end.dtype.as_numpy_dtype)
    return inputs


def make_request(inputs, signature_name: str) -> predict_pb2.PredictRequest:
    asked = predict_pb2.PredictRequest()
    asked.model_spec.name, asked.model_spec.signature_name = "default", signature_name
    for name, array in inputs.items():
        asked.inputs[name].CopyFrom(tf.make_tensor_proto(array))
    return asked


def alternate(calls: dict, times: int) -> dict[str, list[float]]:
    """Seconds of each call, taken in turns so that the machine's mood is shared."""
    seconds = {name: [] for name in calls}
    for i in range(times + max(2, times // 10)):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            if i >= times // 10:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def ask_by_stub(stub, client, asked, inputs) -> None:
    """The message is there: what the server takes, and gRPC."""
    stub.Predict(asked)


def ask_by_client(stub, client, asked, inputs) -> None:
    """Arrays in, arrays out, as in process."""
    client.predict("default", inputs, signature=asked.model_spec.signature_name)


def compare(model, signature, rows: int, times: int, folder: str, ask) -> dict:
    """Median seconds, in process and by `ask`."""
    inputs = make_inputs(signature, rows)
    asked, outputs = make_request(inputs, signature.key), sorted(signature.outputs)
    with (
        Served(folder) as served,
        Client(f"localhost:{PORT}", timeout_seconds=60) as client,
    ):
        (stub,) = served.stubs(1)
        stub.Predict(asked, wait_for_ready=True, timeout=120)
        calls = {
            "in process": lambda: model.run(signature, inputs, outputs),
            "gRPC": lambda: ask(stub, client, asked, inputs),
        }
        seconds = alternate(calls, times)
    return {name: float(np.median(took)) for name, took in seconds.items()}


def compare_by_h2load(model, signature, times: int, folder: str) -> dict | None:
    """Median seconds, in process and asked by h2load, in turns; None without h2load."""
    if shutil.which("h2load") is None:
        return None
    inputs = make_inputs(signature, 1)
    asked, outputs = make_request(inputs, signature.key), sorted(signature.outputs)
    seconds = {"in process": [], "gRPC": []}
    with Served(folder) as served, tempfile.TemporaryDirectory() as aside:
        (stub,) = served.stubs(1)
        answered = stub.Predict(asked, wait_for_ready=True, timeout=120).ByteSize()
        body = pathlib.Path(aside, "body")
        message = asked.SerializeToString()
        body.write_bytes(struct.pack(">?I", False, len(message)) + message)
        for _ in range(-(-times // _BLOCK)):
            for _ in range(_BLOCK):
                started = time.perf_counter()
                model.run(signature, inputs, outputs)
                seconds["in process"].append(time.perf_counter() - started)
            seconds["gRPC"] += ask_by_h2load(body, pathlib.Path(aside, "log"), answered)
    return {name: float(np.median(took)) for name, took in seconds.items()}


def ask_by_h2load(body: pathlib.Path, log: pathlib.Path, answered: int) -> list[float]:
    """Seconds of `_BLOCK` requests, one after the other; the first ten not counted.

    Args:
        body: of a request, with gRPC's prefix.
        log: to write to.
        answered: bytes of the right answer; errors have none.
    """
    log.unlink(missing_ok=True)
    count = _BLOCK + 10
    url = f"http://localhost:{PORT}/{PREDICT}"
    headers = ["-H", "content-type: application/grpc", "-H", "te: trailers"]
    ran = subprocess.run(
        [
            *("h2load", "-n", str(count), "-c", "1", "-m", "1", "-d", str(body)),
            *(*headers, "--log-file", str(log), url),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    received = int(re.search(r"\((\d+)\) data", ran.stdout)[1])
    if received != count * (5 + answered):
        raise SystemExit(f"h2load did not get {count} answers:\n{ran.stdout}")
    return [int(line.split()[2]) / 1e6 for line in log.read_text().splitlines()[10:]]


def throughput(stubs, asked, clients: int, seconds: float) -> float:
    """Requests per second of clients that each wait for their answer."""
    end, counts = time.monotonic() + seconds, [0] * clients

    def run(i: int) -> None:
        while time.monotonic() < end:
            stubs[i % len(stubs)].Predict(asked)
            counts[i] += 1

    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        list(pool.map(run, range(clients)))
    return sum(counts) / seconds


def arrivals(stubs, asked, rate: float, seconds: float, each_5_s) -> tuple:
    """p50, p99 (from the intended arrival) and failures of open-loop arrivals."""
    dice, latencies, failures = np.random.default_rng(2), [], Counter()
    ended = threading.Event()

    def disturb() -> None:
        while not ended.wait(5):
            each_5_s()

    disturber = threading.Thread(target=disturb)
    disturber.start()
    due = time.monotonic()
    calls = []
    while due < time.monotonic() + seconds and len(calls) < rate * seconds:
        due += dice.exponential(1 / rate)
        time.sleep(max(0.0, due - time.monotonic()))
        call = stubs[len(calls) % len(stubs)].Predict.future(asked, timeout=60)
        call.add_done_callback(
            lambda call, due=due: (
                latencies.append(time.monotonic() - due)
                if call.code() is grpc.StatusCode.OK
                else failures.update([f"{call.code().name} ({call.details()})"])
            )
        )
        calls.append(call)
    for call in calls:
        call.exception()
    ended.set()
    disturber.join()
    failed = ", ".join(f"{n} {what}" for what, n in failures.items())
    return *np.percentile(latencies or [np.nan], [50, 99]), failed or NO_FAILURES


def open_loop_capacity(stubs, asked, seconds: float) -> float:
    """The highest rate of arrivals at which p99 stays below `CAPACITY_P99_MS`.

    Callers that wait for their answers would find a higher one: they make pauses when
    the server needs them.
    """

    def is_within_limits(rate: float) -> bool:
        _, p99, failed = arrivals(stubs, asked, rate, seconds, lambda: None)
        print(f"  {rate:.0f}/s: p99 {p99 * 1e3:.0f} ms, {failed}", flush=True)
        return p99 * 1e3 <= CAPACITY_P99_MS and failed == NO_FAILURES

    return find_capacity(is_within_limits, 300.0, precision=0.1)


def show_overhead(of: str, took: dict[str, float]) -> None:
    extra = took["gRPC"] - took["in process"]
    print(
        f"overhead: in process {took['in process'] * 1e3:.2f} ms, gRPC "
        f"{took['gRPC'] * 1e3:.2f} ms, {of} {extra * 1e3:.2f} ms",
        flush=True,
    )


def measure_reloads(served: Served, stubs, asked, rate: float, arguments) -> None:
    """Prints latencies without and with reloads, by turns, and the medians' ratios."""
    disturbances = {
        "quiet": lambda: None,
        "a version every 5 s": served.add_version,
        "a failing version every 5 s": lambda: served.add_version(fails=True),
        "another graph every 5 s": lambda: served.add_version(other_graph=True),
    }
    p99s = {name: [] for name in disturbances}
    for _ in range(arguments.rounds):
        for name, disturb in disturbances.items():
            # From the same state each time: the last one's may be another graph.
            served.add_version()
            served.wait_until_settled()
            p50, p99, failed = arrivals(stubs, asked, rate, arguments.seconds, disturb)
            p99s[name].append(p99)
            print(
                f"reload: {name}, {rate:.0f}/s: p50 {p50 * 1e3:.1f} ms, "
                f"p99 {p99 * 1e3:.1f} ms, {failed}",
                flush=True,
            )
    quiet = np.median(p99s["quiet"])
    for name, p99 in p99s.items():
        print(
            f"reload: {name}: median p99 {np.median(p99) * 1e3:.1f} ms, "
            f"{np.median(p99) / quiet:.2f}x",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True, help="a SavedModel's folder")
    parser.add_argument("--signature", default="serving_default")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--seconds", type=float, default=60, help="of each load")
    parser.add_argument("--share", type=float, default=0.7, help="of capacity, reload")
    parser.add_argument("--rounds", type=int, default=3, help="of reload")
    parser.add_argument("--candidates", type=int, default=1500)
    arguments = parser.parse_args()
    keep_freed_memory()
    model = load_saved_model(VersionFiles(arguments.model))
    signature = model.signature(arguments.signature)
    asked = make_request(make_inputs(signature, 1), signature.key)
    parts = arguments.parts.split(",")
    # To look through the graph for garbage would stop this client, and so all requests,
    # for a quarter of a second.
    gc.collect()
    gc.freeze()
    if "overhead" in parts:
        took = compare(model, signature, 1, 300, arguments.model, ask_by_stub)
        show_overhead("server and Python client", took)
        took = compare_by_h2load(model, signature, 300, arguments.model)
        if took is None:
            print("overhead: h2load is not there: the server's own not measured")
        else:
            show_overhead("server alone", took)
    if "large" in parts:
        rows = arguments.candidates
        took = compare(model, signature, rows, 10, arguments.model, ask_by_client)
        size = make_request(make_inputs(signature, rows), signature.key).ByteSize()
        print(
            f"large: {rows} candidates, {size / 1e6:.1f} MB: in process "
            f"{rows / took['in process']:.0f}/s, gRPC {rows / took['gRPC']:.0f}/s, "
            f"{took['in process'] / took['gRPC']:.1%}",
            flush=True,
        )
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(BATCHING)
        file.flush()
        flags = "--enable_batching", f"--batching_parameters_file={file.name}"
        if "batching" in parts:
            rates = {}
            for name, given in (("without", ()), ("with", flags)):
                with Served(arguments.model, *given) as served:
                    stubs = served.stubs()
                    for stub in stubs:
                        stub.Predict(asked, wait_for_ready=True, timeout=120)
                    throughput(stubs, asked, 64, arguments.seconds / 10)
                    rates[name] = throughput(stubs, asked, 64, arguments.seconds / 4)
            print(
                f"batching: 64 clients, {rates['without']:.0f}/s without, "
                f"{rates['with']:.0f}/s with, {rates['with'] / rates['without']:.1f}x",
                flush=True,
            )
        if "reload" in parts:
            with Served(arguments.model, *flags, warmup=asked) as served:
                stubs = served.stubs()
                for stub in stubs:
                    stub.Predict(asked, wait_for_ready=True, timeout=120)
                # What a server does in its first seconds is not its capacity.
                throughput(stubs, asked, 16, 10)
                rate = arguments.share * open_loop_capacity(
                    stubs, asked, arguments.seconds / 8
                )
                measure_reloads(served, stubs, asked, rate, arguments)


if __name__ == "__main__":
    main()
