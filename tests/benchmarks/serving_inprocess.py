"""Scores with exports in this process: examples/s, ms per call, bytes per request.

    python tests/benchmarks/serving_inprocess.py models/recap/1 models/bfloat16/1

All exports run by turns, on made-up requests of each size; the median of the turns
counts, and the ratio is to the first export in the same turn. `rank` is checked to
score bit for bit like the rows it stands for.
"""

import argparse
import json
import statistics
import time

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from recap_tf.exporting.inputs import RankInputs

_SECONDS = 0.5
"""Least time of a measurement; small requests are repeated."""
_LIST = 8
"""Values in a made-up list of variable length."""
_REPEATED = "serving_default"
_TASK_WEIGHTS = "task_weights"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", help="folders of versions")
    parser.add_argument("--sizes", default="1,64,256,1500", help="candidates")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--json", metavar="FILE", help="also write the figures here")
    arguments = parser.parse_args()
    # A loaded model's functions die with it.
    models = {path: tf.saved_model.load(path) for path in arguments.models}
    report = {}
    for size in map(int, arguments.sizes.split(",")):
        requests = {
            path: make_requests(path, model, size) for path, model in models.items()
        }
        for path, (rank, rows) in requests.items():
            check_equal(path, models[path], rank, rows)
        sizes = request_bytes(*requests[arguments.models[0]])
        report[size] = {"bytes": sizes}
        shown = ", ".join(f"{name} {n:,} bytes" for name, n in sizes.items())
        print(f"{size} candidates: {shown}")
        report[size]["models"] = measure(models, requests, size, arguments.turns)
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(report, file, indent=1)


def make_requests(path: str, model, size: int) -> tuple[dict, dict]:
    """(inputs of `rank`, the same as full rows), made up."""
    random = np.random.default_rng(size)
    with open(f"{path}/assets.extra/ranker.json") as file:
        described = json.load(file)
    specs = model.signatures[_REPEATED].structured_input_signature[1]
    ranking = RankInputs(
        specs, described["viewer_features"], described["viewer_columns"]
    )
    rows = {}
    for name, spec in specs.items():
        shape = [n or (_LIST if i else size) for i, n in enumerate(spec.shape)]
        if name.endswith("_length") and spec.shape.rank == 1:
            rows[name] = np.full(shape, _LIST)
        elif spec.dtype.is_floating:
            rows[name] = random.normal(size=shape).astype(np.float32)
        elif spec.dtype.is_integer:
            rows[name] = random.integers(0, 2, shape)
        else:
            rows[name] = np.full(shape, b"made up", object)
    rank = {n: tf.constant(value) for n, value in ranking.split(rows).items()}
    rows = ranking.repeated(rank)
    weights = model.signatures["tasks"]().get("score_weights")
    if weights is None:
        weights = tf.ones([len(described["tasks"])])
    return rank | {_TASK_WEIGHTS: weights[tf.newaxis]}, rows


def check_equal(path: str, model, rank: dict, rows: dict) -> None:
    ranked = model.signatures["rank"](**rank)
    plain = model.signatures[_REPEATED](**rows)
    for name in set(ranked) & set(plain):
        if not np.array_equal(ranked[name], plain[name]):
            raise SystemExit(f"{path}: `rank` gives another {name} than full rows do.")


def request_bytes(rank: dict, rows: dict) -> dict[str, int]:
    """Signature -> size of a PredictRequest; the weights are the model's own."""
    sizes = {}
    for signature, inputs in (("rank", rank), (_REPEATED, rows)):
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "ranker"
        request.model_spec.signature_name = signature
        for name, value in inputs.items():
            if name != _TASK_WEIGHTS:
                proto = tf.make_tensor_proto(value.numpy())
                request.inputs[name].CopyFrom(proto)
        sizes[signature] = request.ByteSize()
    return sizes


def measure(models, requests, size: int, turns: int) -> dict[str, dict]:
    """Path -> its figures; prints them."""
    calls = {
        path: (lambda m=model, path=path: m.signatures["rank"](**requests[path][0]))
        for path, model in models.items()
    }
    start = time.perf_counter()
    next(iter(calls.values()))()["score"].numpy()
    repeats = max(1, int(_SECONDS / (time.perf_counter() - start)))
    times: dict[str, list[float]] = {path: [] for path in calls}
    for turn in range(turns + 1):
        for path, call in calls.items():
            start = time.perf_counter()
            for _ in range(repeats):
                call()["score"].numpy()
            if turn:  # The first one fills caches.
                times[path].append((time.perf_counter() - start) / repeats)
    first = times[next(iter(times))]
    figures = {}
    for path, seconds_each in times.items():
        seconds = statistics.median(seconds_each)
        ratios = [a / b for a, b in zip(first, seconds_each, strict=True)]
        figures[path] = {
            "examples_per_second": size / seconds,
            "ms": seconds * 1e3,
            "ratio": statistics.median(ratios),
        }
        print(
            f"  {path}: {size / seconds:,.0f} examples/s, {seconds * 1e3:.1f} ms, "
            f"x {figures[path]['ratio']:.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
            flush=True,
        )
    return figures


if __name__ == "__main__":
    main()
