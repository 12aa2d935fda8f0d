"""The status of an answer: gRPC's codes, and the HTTP codes REST has for them."""

from collections.abc import Mapping

import grpc

Code = grpc.StatusCode

_BY_NUMBER = {code.value[0]: code for code in Code}

HTTP: Mapping[Code, int] = {
    Code.OK: 200,
    Code.CANCELLED: 499,
    Code.UNKNOWN: 500,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.UNAUTHENTICATED: 401,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.DATA_LOSS: 500,
}
"""gRPC status -> HTTP status, as TF Serving's REST API maps them."""


def code_of(number: int) -> Code:
    """The gRPC status of that number; UNKNOWN for numbers that have none."""
    return _BY_NUMBER.get(number, Code.UNKNOWN)
