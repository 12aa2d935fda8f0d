"""The processes of a training with parameter servers, as TF_CONFIG lists them.

    {"cluster": {"chief": ["host:port"], "worker": [...], "ps": [...]},
     "task": {"type": "ps", "index": 0}}

Every process gets the same list and its own task. Parameter servers hold variables,
workers compute, the chief tells workers what to do; the first two only serve it.
"""

import dataclasses
import json
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from recap_tf.core.checks import check_choice
from recap_tf.core.command import UserError, one_line, say
from recap_tf.core.storage.sharded_tables import partitioner

CHIEF, WORKER, SERVER = "chief", "worker", "ps"
_KINDS = (CHIEF, WORKER, SERVER)
_LONGEST_WAIT_SECONDS = 600


@dataclasses.dataclass(frozen=True)
class Task:
    """What this process is.

    Args:
        kind: "chief", "worker" or "ps".
        index: which of them.
        cluster: kind -> addresses, host:port.
    """

    kind: str
    index: int
    cluster: Mapping[str, Sequence[str]]

    @property
    def address(self) -> str:
        return self.cluster[self.kind][self.index]

    @property
    def serves(self) -> bool:
        """Whether it waits for what the chief wants."""
        return self.kind != CHIEF


def read_task() -> Task:
    """This process's task, from TF_CONFIG.

    Raises:
        UserError: it is missing or malformed.
    """
    text = os.environ.get("TF_CONFIG", "")
    expected = (
        'strategy "parameter_server" needs the environment variable TF_CONFIG = '
        '{"cluster": {"chief": [ADDRESS], "worker": [...], "ps": [...]}, '
        '"task": {"type": ..., "index": ...}}'
    )
    if not text:
        raise UserError(f"{expected}. It is not set.")
    try:
        config = json.loads(text)
        cluster, task = dict(config["cluster"]), config["task"]
        kind, index = task["type"], int(task["index"])
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{expected}. Received: {text}") from error
    for name in _KINDS:
        if not _is_addresses(cluster.get(name)):
            raise UserError(
                f"TF_CONFIG must list a {name}: cluster.{name} = [ADDRESS, ...] with "
                f"addresses host:port. Received: {cluster.get(name)!r}"
            )
    if len(cluster[CHIEF]) != 1:
        raise UserError(
            f"TF_CONFIG must list one chief. Received: {len(cluster[CHIEF])}"
        )
    check_choice("TF_CONFIG: task.type", kind, _KINDS, error=UserError)
    if not 0 <= index < len(cluster[kind]):
        raise UserError(
            f"TF_CONFIG: task.index must be below {len(cluster[kind])}, the number of "
            f"{kind} tasks, and not negative. Received: {index}"
        )
    return Task(kind, index, {name: list(cluster[name]) for name in _KINDS})


def _is_addresses(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(entry, str) and _host_and_port(entry) for entry in value)
    )


def _host_and_port(address: str) -> tuple[str, int] | None:
    host, _, port = address.rpartition(":")
    return (host.strip("[]"), int(port)) if host and port.isdecimal() else None


def serve(task: Task) -> None:
    """Does what the chief wants until SIGTERM or SIGINT.

    A worker that is killed can be started again at any time; a parameter server that
    is started again has lost its variables.

    Raises:
        UserError: its address is taken.
    """
    _report_lost_tasks()
    ended = threading.Event()
    before = {
        number: signal.signal(number, lambda *_: ended.set())
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    options = tf.compat.v1.ConfigProto()
    # With fewer threads than workers, all of them can wait for each other.
    workers = len(task.cluster[WORKER])
    options.inter_op_parallelism_threads = max(os.cpu_count() or 1, workers + 1)
    try:
        server = tf.distribute.Server(
            tf.train.ClusterSpec(dict(task.cluster)),
            job_name=task.kind,
            task_index=task.index,
            protocol="grpc",
            config=options,
        )
        say(f"{task.kind} {task.index} serves at {task.address} until SIGTERM.")
        ended.wait()
        del server
    except tf.errors.UnknownError as error:
        raise _cannot_serve(task, error) from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _cannot_serve(task: Task, error: tf.errors.OpError) -> UserError:
    return UserError(
        f"TF_CONFIG: {task.kind} {task.index} cannot serve at {task.address}: "
        f"{one_line(error.message)}"
    )


def connect(task: Task) -> tf.distribute.Strategy:
    """The strategy of the chief, once all workers and parameter servers answer.

    Raises:
        UserError: one of them does not within ten minutes, or the chief's own address
            is taken.
    """
    _report_lost_tasks()
    tf.get_logger().addFilter(_shorten)
    _wait_for_all(task, time.monotonic() + _LONGEST_WAIT_SECONDS)
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec(dict(task.cluster)),
        task_type=task.kind,
        task_id=task.index,
        rpc_layer="grpc",
    )
    try:
        return tf.distribute.ParameterServerStrategy(
            resolver, variable_partitioner=partitioner(len(task.cluster[SERVER]))
        )
    except tf.errors.UnknownError as error:
        raise _cannot_serve(task, error) from error


def _report_lost_tasks() -> None:
    # Otherwise calls to a process that has died wait for it.
    os.environ.setdefault("GRPC_FAIL_FAST", "use_caller")


def _shorten(record: logging.LogRecord) -> bool:
    """Of a lost task, TensorFlow logs a page; of checkpoints, that it traces anew."""
    record.msg, record.args = one_line(record.getMessage()), ()
    return record.levelno >= logging.ERROR


def _wait_for_all(task: Task, deadline: float) -> None:
    """TensorFlow itself fails at the first one that has not started yet."""
    said = time.monotonic() + 5
    for kind in (SERVER, WORKER):
        for index, address in enumerate(task.cluster[kind]):
            while not _answers(address):
                if time.monotonic() > deadline:
                    raise UserError(f"{kind} {index} does not answer at {address}.")
                if said is not None and time.monotonic() > said:
                    said = None
                    say(f"Waiting for {kind} {index} at {address}.")
                time.sleep(0.2)


def _answers(address: str) -> bool:
    try:
        with socket.create_connection(_host_and_port(address), timeout=2):
            return True
    except OSError:
        return False


def is_lost_server(error: BaseException) -> bool:
    """Whether a parameter server is gone, or another one is in its place."""
    text = str(error)
    if not isinstance(error, tf.errors.OpError) or "/job:ps" not in text:
        return False
    if isinstance(error, (tf.errors.UnavailableError, tf.errors.AbortedError)):
        return True
    # Started again before anyone noticed, it knows nothing of its variables.
    return "unknown device" in text.lower() or "remote_handle" in text
