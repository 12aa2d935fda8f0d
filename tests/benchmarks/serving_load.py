"""Capacity of our server, and a soak at a share of it: latency, errors, memory.

    python tests/benchmarks/serving_load.py --folder models/recap --sizes 1500 \\
        --signature serve_examples --examples "data/recap/validation/*.gz"

Starts `serving.server` for the folder, looks for its capacity, then puts 70 % of it on
the server for ten minutes. Exit code 1 if a request failed or memory grew.
"""

import argparse
import pathlib
import socket
import subprocess
import sys
import time

from serving import loadtest
from serving.client import Client
from serving.errors import ServingError

_LOAD_SECONDS = 600
_NAME = "measured"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", required=True, help="of the model's versions")
    parser.add_argument("--sizes", default="1500", help="see serving.loadtest")
    parser.add_argument("--signature", help="see serving.loadtest")
    parser.add_argument("--examples", help="tf.Examples to draw from; else made up")
    parser.add_argument("--requests", help="PredictionLog files to send from")
    parser.add_argument("--rate", type=float, default=2.0, help="the first one tried")
    parser.add_argument("--p99-ms", type=float, default=2000.0, help="of capacity")
    parser.add_argument("--share", type=float, default=0.7, help="of capacity")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--growth-mb", type=float, default=30.0)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--out", default="serving_load", help="folder of the results")
    parser.add_argument(
        "server_flags", nargs="*", metavar="-- FLAGS", help="more of the server's"
    )
    arguments = parser.parse_args()
    out = pathlib.Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    port = _free_port()
    with (out / "server.log").open("w") as log:
        server = subprocess.Popen(
            [
                *(sys.executable, "-m", "serving.server", f"--port={port}"),
                f"--model_name={_NAME}",
                f"--model_base_path={arguments.folder}",
                "--max_message_bytes=1000000000",
                *arguments.server_flags,
            ],
            stderr=log,
        )
    try:
        _wait_for(server, port)
        return _measure(arguments, out, server, port)
    finally:
        server.terminate()
        server.wait()


def _measure(arguments, out: pathlib.Path, server, port: int) -> int:
    given = {
        name: getattr(arguments, name)
        for name in ("signature", "examples", "requests")
        if getattr(arguments, name)
    }
    return loadtest.main(
        [
            *(f"--{name}={value}" for name, value in given.items()),
            f"--server=localhost:{port}",
            f"--model={_NAME}",
            f"--sizes={arguments.sizes}",
            "--find-capacity",
            f"--rate={arguments.rate}",
            f"--p99-ms={arguments.p99_ms}",
            f"--of-capacity={arguments.share}",
            f"--seconds={60 * arguments.minutes}",
            "--step-seconds=20",
            "--timeout-seconds=30",
            f"--processes={arguments.processes}",
            f"--server-pid={server.pid}",
            f"--growth-mb={arguments.growth_mb}",
            f"--json={out / 'load.json'}",
            f"--plot={out / 'load.png'}",
        ]
    )


def _free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("localhost", 0))
        return bound.getsockname()[1]


def _wait_for(server: subprocess.Popen, port: int) -> None:
    deadline = time.monotonic() + _LOAD_SECONDS
    with Client(f"localhost:{port}", timeout_seconds=5.0) as client:
        while time.monotonic() < deadline:
            if server.poll() is not None:
                raise SystemExit(f"The server ended with code {server.returncode}.")
            try:
                if "AVAILABLE" in client.states(_NAME).values():
                    return
            except ServingError:
                time.sleep(0.5)
    raise SystemExit("The server did not load the model.")


if __name__ == "__main__":
    sys.exit(main())
