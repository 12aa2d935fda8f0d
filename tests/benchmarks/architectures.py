"""Trains every architecture on real data and prints how they compare.

    python tests/benchmarks/architectures.py --data census --seeds 3

Needs data/census (or ml100k, categorical) below the current folder: README.md says
how to convert the first two, categorical_set.py makes the third. Every run is
recap_tf.train with the data's config and one of configs/architectures, or of the
folder there that is named like the data. A finished run is kept in --out as JSON and
not repeated unless its settings change; Ctrl-C saves the run under way, and the same
command goes on from there. Speeds from a machine that did other things meanwhile can
be measured anew: --speed.
"""

import argparse
import dataclasses
import hashlib
import json
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import time

import recap_tf  # noqa: F401  (chooses Keras 2, so before TensorFlow)

# isort: split
import categorical_set
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from recap_tf import settings
from recap_tf.core.command import UserError, run_command
from recap_tf.core.config import gin_config

ROOT = pathlib.Path(__file__).resolve().parents[2]
ARCHITECTURES = (
    "mlp",
    "dcn",
    "mask_net",
    "dlrm",
    "share_none",
    "share_partial",
    "mmoe",
    "ple",
)
SHORT = (
    "recap.train.steps=400",
    "recap.train.log_every=50",
    "recap.train.evaluate_every=None",
    "recap.train.early_stopping=None",
    "recap.evaluate.steps=1",
)
LINEAR = "logistic regression"


@dataclasses.dataclass(frozen=True)
class Run:
    """One training.

    Args:
        data: name of the data's config.
        architecture: name of its variant.
        seed: of weights, dropout and the order of the data.
        overrides: `Class.parameter=value` each.
        out: folder of all runs.
    """

    data: str
    architecture: str
    seed: int
    overrides: tuple[str, ...]
    out: pathlib.Path

    def config_file(self) -> pathlib.Path:
        """A config of the data's and the architecture's, written anew."""
        path = self.out / self.data / f"{self.architecture}.gin"
        path.parent.mkdir(parents=True, exist_ok=True)
        variants = ROOT / "configs" / "architectures"
        variant = variants / self.data / f"{self.architecture}.gin"
        if not variant.exists():
            variant = variants / f"{self.architecture}.gin"
        data = ROOT / "configs" / f"{self.data}.gin"
        path.write_text(f'include "{data}"\ninclude "{variant}"\n')
        return path

    def folder(self) -> pathlib.Path:
        """Where the run is kept: another one when its settings are others."""
        gin_config.load(str(self.config_file()), self.overrides, roots=settings.ROOTS)
        digest = hashlib.sha256(gin_config.operative().encode()).hexdigest()[:8]
        return self.out / self.data / f"{self.architecture}-{digest}-{self.seed}"

    def command(self) -> list[str]:
        bound = [
            *self.overrides,
            f"recap.train.seed={self.seed}",
            f'recap.train.save_dir="{self.folder() / "train"}"',
        ]
        sets = [word for one in bound for word in ("--set", one)]
        config_file = str(self.config_file())
        return [sys.executable, "-m", "recap_tf.train", "--config", config_file, *sets]

    def result(self) -> dict | None:
        """What the finished run gave; none if it is not finished."""
        path = self.folder() / "result.json"
        return json.loads(path.read_text()) if path.exists() else None

    def keep(self, result: dict) -> None:
        """Writes what `result()` is to return."""
        text = json.dumps(result, indent=1) + "\n"
        (self.folder() / "result.json").write_text(text)

    def train(self) -> dict:
        """Trains, or goes on training; returns and keeps the result.

        Raises:
            KeyboardInterrupt: once the training has saved itself.
            UserError: training failed; its log says why.
        """
        folder = self.folder()
        folder.mkdir(parents=True, exist_ok=True)
        log_path = folder / "log.txt"
        with log_path.open("a") as log:
            training = subprocess.Popen(self.command(), stdout=log, stderr=log)
            try:
                code = training.wait()
            except KeyboardInterrupt:
                # The terminal's Ctrl-C has reached it as well: it saves, then ends.
                training.wait()
                raise
        report = folder / "train" / "evaluation.json"
        if code or not report.exists():
            raise UserError(f"Training did not finish, see {log_path}.")
        # The last set is the one that nothing was chosen by, where there are two.
        evaluated = list(json.loads(report.read_text())["sets"].values())[-1]
        counts = re.findall(r"^([\d,]+) weights,", log_path.read_text(), re.MULTILINE)
        result = {
            "auroc": {task: one["auroc"] for task, one in evaluated.items()},
            "weights": int(counts[-1].replace(",", "")),
            "steps_per_second": _steps_per_second(folder / "train"),
        }
        self.keep(result)
        return result


def _steps_per_second(save_dir: pathlib.Path) -> float:
    """The median over the log entries, so that start-up and pauses do not count."""
    logs = EventAccumulator(str(save_dir / "tensorboard" / "train"))
    logs.Reload()
    tag = "speed/steps_per_second"
    values = [tf.make_ndarray(event.tensor_proto) for event in logs.Tensors(tag)]
    return statistics.median(float(value) for value in values)


def table(results: dict[str, list[dict]]) -> str:
    """Architecture -> results of its seeds, as a markdown table."""
    tasks = list(next(iter(results.values()))[0]["auroc"])
    heads = ["AUROC", *tasks, "weights", "steps/s"]
    rows = [heads, ["---", *["---:"] * (len(heads) - 1)]]
    for name, runs in results.items():
        speeds = [run["steps_per_second"] for run in runs]
        rows.append(
            [
                name if len(runs) > 1 else f"{name} (1 seed)",
                *[_mean([run["auroc"][task] for run in runs]) for task in tasks],
                f"{runs[0]['weights']:,}",
                "" if None in speeds else f"{statistics.mean(speeds):.1f}",
            ]
        )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _mean(values: list[float]) -> str:
    """Mean and standard error; no error of one value."""
    mean = f"{statistics.mean(values):.4f}"
    if len(values) == 1:
        return mean
    return f"{mean} ± {statistics.stdev(values) / len(values) ** 0.5:.4f}"


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="census", help="census, ml100k, categorical")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each")
    parser.add_argument("--only", metavar="A,B", help="only these architectures")
    parser.add_argument("--out", default="runs/architectures", help="keeps the runs")
    parser.add_argument(
        "--set",
        metavar="Class.parameter=value",
        dest="overrides",
        action="append",
        default=[],
        help="a setting of every run",
    )
    parser.add_argument(
        "--speed",
        action="store_true",
        help="train nothing; measure steps/s of the finished runs anew",
    )
    arguments = parser.parse_args(argv)
    names = arguments.only.split(",") if arguments.only else list(ARCHITECTURES)
    for name in names:
        if name not in ARCHITECTURES:
            raise UserError(f"--only takes {', '.join(ARCHITECTURES)}, not {name!r}.")
    out = pathlib.Path(arguments.out).resolve()
    runs = [
        Run(arguments.data, name, seed, tuple(arguments.overrides), out)
        for seed in range(arguments.seeds)
        for name in names
    ]
    results = {}
    if arguments.data == "categorical":
        results[LINEAR] = [categorical_set.linear_result(out)]
    try:
        measure_speed(runs) if arguments.speed else train_all(runs)
    finally:
        for run in runs:
            if (result := run.result()) is not None:
                results.setdefault(run.architecture, []).append(result)
        if results:
            print(table(results), flush=True)


def train_all(runs: list[Run]) -> None:
    """Trains those that are not finished, and says how long the rest will take."""
    waiting = [run for run in runs if run.result() is None]
    seconds: list[float] = []
    for i, run in enumerate(waiting):
        left = ""
        if seconds:
            minutes = statistics.mean(seconds) * (len(waiting) - i) / 60
            left = f", about {minutes:.0f} min left"
        print(
            f"[{i + 1}/{len(waiting)}] {run.data} {run.architecture}, seed {run.seed}"
            f"{left}; log: {run.folder() / 'log.txt'}",
            file=sys.stderr,
            flush=True,
        )
        start = time.monotonic()
        result = run.train()
        seconds.append(time.monotonic() - start)
        scores = "  ".join(f"{t} {v:.4f}" for t, v in result["auroc"].items())
        print(f"    {scores}  ({seconds[-1]:.0f} s)", file=sys.stderr, flush=True)


def measure_speed(runs: list[Run]) -> None:
    """Gives all finished runs of an architecture the speed of a short run of now."""
    for name in dict.fromkeys(run.architecture for run in runs):
        same = [run for run in runs if run.architecture == name]
        overrides = (*same[0].overrides, *SHORT)
        short = dataclasses.replace(
            same[0], overrides=overrides, out=same[0].out / "speed"
        )
        shutil.rmtree(short.folder(), ignore_errors=True)
        speed = short.train()["steps_per_second"]
        print(f"{name}: {speed:.1f} steps/s", file=sys.stderr, flush=True)
        for run in same:
            if (result := run.result()) is not None:
                run.keep(result | {"steps_per_second": speed})


if __name__ == "__main__":
    sys.exit(run_command(main))
