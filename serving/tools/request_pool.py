"""The requests that a load test sends: of chosen sizes, serialized before it starts."""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from tensorflow_serving.apis import predict_pb2

from serving.client import Client
from serving.command import UserError
from serving.predict_messages import predict_request
from serving.tools import recording, rows
from serving.tools.load_worker import RequestPool

_MOST_ROWS_READ = 4096
_MOST_BYTES = 128 << 20
_EACH = 8


def recorded_pool(paths: Sequence[str], model: str) -> RequestPool:
    """Recorded requests, as many as fit in memory, each as likely as any other.

    Args:
        paths: TFRecord files of PredictionLog.
        model: the name to ask instead of the recorded ones, in its newest version.

    Raises:
        UserError: there are none.
    """
    messages, sizes, total = [], [], 0
    for log in recording.read_requests(paths):
        request = log.request
        request.model_spec.name = model
        request.model_spec.ClearField("version_choice")
        messages.append(request.SerializeToString())
        sizes.append(request_rows(request))
        total += len(messages[-1])
        if total > _MOST_BYTES:
            break
    if not messages:
        raise UserError(f"There are no Predict requests in {', '.join(paths)}.")
    return _pool(messages, sizes, [1.0] * len(messages))


def sized_pool(
    client: Client,
    model: str,
    signature: str,
    sizes: Mapping[int, float],
    *,
    examples: str | None = None,
    parquet: str | None = None,
    outputs: Sequence[str] = (),
    seed: int = 0,
) -> RequestPool:
    """Requests of each of `sizes`, of rows drawn from a file or made up.

    Args:
        client: asks the server what the signature takes.
        sizes: rows of a request -> weight; weights need not add up to 1.
        examples: pattern of TFRecord files of tf.Examples to draw from.
        parquet: pattern of files with the inputs as columns, instead.
        outputs: aliases asked for; none for all.
        seed: of the draw of rows.

    Raises:
        UserError: the signature is not there, or the rows do not fit.
    """
    signatures = client.signatures(model)
    if signature not in signatures:
        raise UserError(
            f"--signature {signature!r} must be one of {sorted(signatures)} of the "
            "model."
        )
    spec, rng = signatures[signature], np.random.default_rng(seed)
    source: rows.Inputs | None = None
    if examples is not None:
        alias = rows.example_input(signature, spec)
        batches = rows.example_batches(
            rows.match_files(examples), alias, _MOST_ROWS_READ
        )
        source = next(batches, None)
    elif parquet is not None:
        pairs = rows.parquet_batches(rows.match_files(parquet), spec, _MOST_ROWS_READ)
        source = next((inputs for inputs, _ in pairs), None)
    if source is None and (examples, parquet) != (None, None):
        raise UserError(f"There are no rows in {examples or parquet}.")
    messages, of_size, weights = [], [], []
    for size, weight in sizes.items():
        requests, total = [], 0
        for _ in range(_EACH):
            if source is None:
                inputs = rows.made_rows(spec, size, rng)
            else:
                count = len(next(iter(source.values())))
                chosen = rng.integers(0, count, size)
                inputs = {name: array[chosen] for name, array in source.items()}
            request = predict_request(
                model, inputs, signature=signature, outputs=outputs
            )
            requests.append(request.SerializeToString())
            total += len(requests[-1])
            if total > _MOST_BYTES / len(sizes):
                break
        messages += requests
        of_size += [size] * len(requests)
        weights += [weight / len(requests)] * len(requests)
    return _pool(messages, of_size, weights)


def try_out(client: Client, pool: RequestPool) -> None:
    """Sends one request of each size, the smallest first.

    A load test of requests that the server refuses would measure its refusals.

    Raises:
        CallError: the server's answer to the first that fails.
    """
    numbers = range(len(pool.messages))
    key = pool.rows.__getitem__
    for _, same in itertools.groupby(sorted(numbers, key=key), key=key):
        message = pool.messages[next(same)]
        client.send(predict_pb2.PredictRequest.FromString(message))


def request_rows(request: predict_pb2.PredictRequest) -> int:
    """The examples in a request: the largest first dimension of its inputs."""
    return max(
        (
            proto.tensor_shape.dim[0].size
            for proto in request.inputs.values()
            if proto.tensor_shape.dim
        ),
        default=1,
    )


def _pool(messages, sizes, weights) -> RequestPool:
    probabilities = np.array(weights, np.float64)
    return RequestPool(
        messages=messages,
        rows=np.array(sizes),
        probabilities=probabilities / probabilities.sum(),
    )
