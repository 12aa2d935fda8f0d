"""What the load test's tests share: a server that answers as told, and loads."""

import concurrent.futures
import itertools
import threading
import time

import grpc
import numpy as np
from tensorflow_serving.apis import predict_pb2

from serving.connection import Connection
from serving.predict_messages import predict_request
from serving.tools.load_outcome import LoadOutcome
from serving.tools.load_worker import RequestPool
from serving.tools.offered_load import OfferedLoad


class Fake:
    """A server whose Predict calls `answer(number of the call)`, a code or None."""

    def __init__(self, answer=lambda number: None, threads=16):
        self.calls = []
        numbers, lock = itertools.count(), threading.Lock()

        def predict(request, context):
            with lock:
                self.calls.append((time.monotonic(), request, context.peer()))
                number = next(numbers)
            code = answer(number)
            if code is not None:
                context.abort(code, "as told")
            return predict_pb2.PredictResponse(model_spec=request.model_spec)

        handler = grpc.unary_unary_rpc_method_handler(
            predict,
            predict_pb2.PredictRequest.FromString,
            predict_pb2.PredictResponse.SerializeToString,
        )
        generic = grpc.method_handlers_generic_handler(
            "tensorflow.serving.PredictionService", {"Predict": handler}
        )
        self.server = grpc.server(concurrent.futures.ThreadPoolExecutor(threads))
        self.server.add_generic_rpc_handlers([generic])
        port = self.server.add_insecure_port("localhost:0")
        self.connection = Connection(f"localhost:{port}")

    def __enter__(self):
        self.server.start()
        return self

    def __exit__(self, *_):
        self.server.stop(None)


def made_pool(sizes=(1,), probabilities=None) -> RequestPool:
    return RequestPool(
        messages=[
            predict_request("m", {"x": np.zeros(n)}).SerializeToString() for n in sizes
        ],
        rows=np.array(sizes),
        probabilities=np.array(probabilities or [1 / len(sizes)] * len(sizes)),
    )


def made_load(**settings) -> OfferedLoad:
    return OfferedLoad(
        **{"seconds": 1.0, "warmup_seconds": 0.0, "processes": 1} | settings
    )


def made_outcome(
    latency_ms, codes=None, *, load=None, intended=None, **fields
) -> LoadOutcome:
    latency = np.array(latency_ms, float) / 1e3
    count = len(latency)
    settings = {
        "lag": np.zeros(count),
        "rows": np.ones(count, int),
        "cpu_shares": [0.1],
        "warmup_codes": np.array([], str),
        "carried_over": np.array([], int),
    }
    return LoadOutcome(
        load or made_load(rate=10.0),
        np.linspace(0, 0.5, count) if intended is None else np.array(intended, float),
        latency,
        codes=np.array(codes or ["OK"] * count),
        **settings | fields,
    )
