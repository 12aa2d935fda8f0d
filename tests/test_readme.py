"""The README's commands, run as they stand, each on tiny data in an empty folder."""

import contextlib
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCK = re.compile(r"(?:<!-- (?P<mark>[^>]*?) -->\n)?```\n(?P<text>.*?)```", re.DOTALL)
# .ci/run runs those of the two set-up blocks, and those of data that is not ours.
ELSEWHERE = ("run:", "not run here")


def _blocks() -> dict[str, str]:
    """First words of each block that has to be run here -> its text."""
    found = {}
    for match in BLOCK.finditer(README):
        if not (match["mark"] or "").startswith(ELSEWHERE):
            found[match["text"].split("\n")[0][:60]] = match["text"]
    return found


def _inline() -> list[str]:
    """The commands of ours that stand in running text."""
    return re.findall(r"`(python -m (?:recap_tf|twhin_tf|serving)[^`]*)`", README)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An empty folder with a parquet file of impressions, and the configs."""
    folder = tmp_path_factory.mktemp("readme")
    shutil.copytree(ROOT / "configs", folder / "configs")
    rng = np.random.default_rng(5)
    rows = 3000
    age = rng.integers(18, 80, rows)
    city = rng.choice(["Rome", "Oslo", "Lima"], rows)
    table = {
        "user_id": rng.integers(0, 200, rows),
        "post_id": rng.integers(0, 100, rows),
        "day": np.arange(rows) * 31 // rows,
        "age": age,
        "city": city,
        "watched": rng.exponential(size=rows),
        "is_click": (rng.random(rows) < np.where(city == "Oslo", 0.7, 0.2)).astype(int),
        "is_like": (rng.random(rows) < age / 200).astype(int),
    }
    pq.write_table(pa.table(table), folder / "impressions.parquet")
    return folder


def _run(command: str, folder: pathlib.Path) -> None:
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "PATH": f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    result = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"


@pytest.mark.slow
def test_the_readmes_commands_run(folder):
    blocks = _blocks()
    assert blocks
    for text in blocks.values():
        _run(text, folder)
    assert (folder / "models/mine/1/saved_model.pb").exists()
    commands = _inline()
    assert any("inspect" in command for command in commands)
    for command in commands:
        _run(command.replace("\n", " "), folder)
    assert (folder / "metrics.json").exists()
    _serves(folder)


def _marked(mark: str, ports: dict[str, int]) -> str:
    """The block after `<!-- run: mark -->`, with other ports."""
    pattern = rf"<!-- run: {mark} -->\n```\n(.*?)```"
    text = re.search(pattern, README, re.DOTALL)[1]
    for number, port in ports.items():
        text = text.replace(number, str(port))
    return text


def _serves(folder: pathlib.Path) -> None:
    """Starts the server as the README does, on free ports, and calls it as there."""
    ports = {}
    for number in ("8500", "8501"):
        with socket.socket() as one:
            one.bind(("localhost", 0))
            ports[number] = one.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, *_marked("serve", ports).split()[1:]],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    url = f"http://localhost:{ports['8501']}/v1/models/mine"
    try:
        for _ in range(240):
            with contextlib.suppress(OSError), urllib.request.urlopen(url) as answer:
                assert b"AVAILABLE" in answer.read()
                break
            assert server.poll() is None
            time.sleep(0.5)
        else:
            raise AssertionError("The server did not answer.")
        _run(_marked("clients", ports), folder)
        (folder / "call.py").write_text(_marked("python", ports))
        _run("python call.py", folder)
    finally:
        server.terminate()
    assert server.wait(60) == 0
    for name in ("scored.parquet", "latency.png", "load.json", "production"):
        assert (folder / name).exists()


def test_the_set_up_blocks_are_marked():
    for mark in ("main", "tests"):
        assert re.search(rf"<!-- run: {mark} -->\n```\n.+?\n```", README, re.DOTALL)
