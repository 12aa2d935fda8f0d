"""Load on a server: when requests are sent, what is timed, what is counted."""

import dataclasses
import os
import subprocess
import sys
import threading
import time

import grpc
import numpy as np
import pytest
from load_fakes import Fake, made_load, made_pool

from serving import loadtest
from serving.command import UserError
from serving.connection import Connection
from serving.tools import load_processes, load_worker
from serving.tools.load_processes import run_load
from serving.tools.load_worker import poisson_times


def test_arrivals_are_poisson():
    times = poisson_times(2000.0, 10.0, np.random.default_rng(1))
    gaps = np.diff(times)
    assert abs(len(times) - 20000) < 5 * np.sqrt(20000)
    assert times.min() >= 0 and times.max() < 10
    # Exponential gaps: as long a deviation as a mean, and 1/e of them longer than it.
    assert gaps.std() / gaps.mean() == pytest.approx(1, abs=0.05)
    assert (gaps > gaps.mean()).mean() == pytest.approx(np.exp(-1), abs=0.02)


def test_a_stall_is_in_every_request_that_it_delays():
    # One thread, which stalls half a second once: a client that waits for its answers
    # would see a single slow request.
    def answer(number):
        if number == 20:
            time.sleep(0.5)

    with Fake(answer, threads=1) as fake:
        outcome = run_load(fake.connection, made_pool(), made_load(rate=100.0))
    assert outcome.errors() == {}
    stalled = outcome.latency.argmax()
    assert outcome.latency[stalled] >= 0.5
    ends = outcome.intended + outcome.latency
    due = outcome.intended - outcome.intended[stalled]
    delayed = (due > 0) & (due < 0.4)
    assert delayed.sum() > 15
    # None of them can have been answered before the stall's end.
    assert (ends[delayed] > ends[stalled] - 0.05).all()


def _sent_late(fake, late_seconds, **settings):
    """One process's share, run here, that begins after its first times are over."""
    share = dataclasses.replace(made_load(**settings).shares()[0], seed=3)
    with fake.connection.open() as channel:
        sender = load_worker._Sender([channel], made_pool(), share)
        return sender.run(start=time.monotonic() - late_seconds)


def test_the_clients_own_lateness_is_part_of_the_latency():
    with Fake() as fake:
        sent = _sent_late(fake, 0.4, rate=200.0, seconds=0.5)
    # Noted as they are answered, in any order.
    first, last = sent.intended.argmin(), sent.intended.argmax()
    assert sent.lag[first] >= 0.4 - sent.intended[first]
    assert sent.lag[first] > sent.lag[last]
    assert (sent.latency > sent.lag).all()


def test_what_is_too_late_is_not_sent():
    with Fake() as fake:
        sent = _sent_late(fake, 0.4, rate=200.0, seconds=0.2, timeout_seconds=0.1)
    assert set(sent.code.tolist()) == {load_worker.NOT_SENT}
    assert np.isnan(sent.latency).all()
    assert fake.calls == []


def test_a_server_that_hangs_does_not_fill_the_clients_memory(monkeypatch):
    monkeypatch.setattr(load_worker, "_MOST_IN_FLIGHT", 4)
    with Fake(lambda number: time.sleep(1.0)) as fake:
        sent = _sent_late(fake, 0.0, rate=100.0, seconds=0.5)
        assert len(fake.calls) == 4
    assert (sent.code == load_worker.NOT_SENT).sum() == len(sent.code) - 4


def test_the_warmups_late_answers_are_throughput():
    with Fake(lambda number: time.sleep(0.4), threads=64) as fake:
        given = made_load(rate=100.0, warmup_seconds=0.5)
        outcome = run_load(fake.connection, made_pool(), given)
    # Those of its last 0.4 s.
    assert len(outcome.carried_over) > 10
    within = (outcome.intended + outcome.latency < 1).sum()
    assert outcome.throughput()[0] == within + len(outcome.carried_over)


def test_the_sizes_are_mixed_as_asked_and_warmup_is_left_out():
    with Fake() as fake:
        outcome = run_load(
            fake.connection,
            made_pool((2, 7), [0.25, 0.75]),
            made_load(rate=300.0, warmup_seconds=0.5, processes=2),
        )
    assert len(fake.calls) == len(outcome.intended) + len(outcome.warmup_codes)
    assert len(outcome.warmup_codes) == pytest.approx(150, abs=60)
    assert (outcome.rows == 7).mean() == pytest.approx(0.75, abs=0.12)
    sent = [call.inputs["x"].tensor_shape.dim[0].size for _, call, _ in fake.calls]
    assert set(sent) == {2, 7}
    # Both processes, each over a connection of its own.
    assert len({peer for _, _, peer in fake.calls}) == 2
    assert outcome.intended.min() >= 0 and outcome.intended.max() < 1
    requests, examples = outcome.throughput()
    assert requests == pytest.approx(300, abs=90)
    assert examples / requests == pytest.approx(5.75, abs=0.7)


def test_errors_are_counted_by_code():
    codes = [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.NOT_FOUND, None, None]
    with Fake(lambda number: codes[number % 4]) as fake:
        outcome = run_load(fake.connection, made_pool(), made_load(rate=100.0))
    count = len(outcome.intended)
    assert outcome.errors()["UNAVAILABLE"] == pytest.approx(count / 4, abs=1)
    assert outcome.errors()["NOT_FOUND"] == pytest.approx(count / 4, abs=1)
    assert outcome.throughput()[0] <= count / 2 + 1


def test_deadlines_count_from_the_intended_time():
    with Fake(lambda number: time.sleep(0.3), threads=1) as fake:
        given = made_load(rate=40.0, timeout_seconds=0.5)
        outcome = run_load(fake.connection, made_pool(), given)
    assert set(outcome.errors()) <= {"DEADLINE_EXCEEDED", "CANCELLED"}
    assert outcome.errors()["DEADLINE_EXCEEDED"] > 20


def test_a_closed_loop_has_as_many_under_way_as_callers():
    state = {"now": 0, "most": 0}
    lock = threading.Lock()

    def answer(number):
        with lock:
            state["now"] += 1
            state["most"] = max(state["most"], state["now"])
        time.sleep(0.02)
        with lock:
            state["now"] -= 1

    with Fake(answer) as fake:
        given = made_load(callers=5, processes=2)
        outcome = run_load(fake.connection, made_pool(), given)
    assert state["most"] == 5
    assert outcome.throughput()[0] < 5 / 0.02 + 1
    assert outcome.percentiles()["p50"] >= 20


def test_a_server_that_is_not_there_is_one_line(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "")
    worker = load_processes._WORKER.replace(
        "load_worker;", "load_worker; load_worker._CONNECT_SECONDS = 0.2;"
    )
    monkeypatch.setattr(load_processes, "_WORKER", worker)
    with pytest.raises(UserError, match="localhost:1 could not be connected to"):
        run_load(Connection("localhost:1"), made_pool(), made_load(rate=1.0))


def test_a_process_that_dies_is_noticed(monkeypatch):
    monkeypatch.setattr(load_processes, "_WORKER", "import os; os._exit")
    with pytest.raises(UserError, match="has ended by itself"):
        run_load(Connection("localhost:1"), made_pool(), made_load(rate=1.0))


def test_the_processes_do_without_tensorflow():
    code = (
        "import sys, serving.tools.load_worker, serving.connection; print(*sys.modules)"
    )
    root = os.path.dirname(os.path.dirname(os.path.abspath(loadtest.__file__)))
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, check=True
    )
    assert b" serving.tools.load_worker " in done.stdout
    assert b" tensorflow" not in done.stdout
