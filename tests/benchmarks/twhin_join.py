"""What TwHIN vectors bring to a ranker: trained with and without, on real data.

    python tests/benchmarks/twhin_join.py --data ml100k --raw $DATA --seeds 3

The rows of the log, in the order of time:

    | graph      | ranker's training | test |

The graph holds the engagements of the first part of the training period, as the ranker
would otherwise be trained on the very labels that its vectors were learned from. The
ranker is trained on the rest of it and tested on what comes after; its past-only counts
go back to the first row in both cases. The same rows, config, seeds and steps without
the vectors are the other side. A finished run is kept in --out and not repeated; the
error is that of the mean of the paired differences over the seeds.
"""

import argparse
import dataclasses
import json
import pathlib
import statistics
import subprocess
import sys
from collections.abc import Sequence

import recap_tf  # noqa: F401  (chooses Keras 2, so before TensorFlow)
from recap_tf.core.command import UserError, run_command
from recap_tf.core.row_files import open_table

ROOT = pathlib.Path(__file__).resolve().parents[2]
WITHOUT, WITH = "without vectors", "with TwHIN vectors"
# convert's rule for files: neighbouring rows in each, at least 2,500.
_MOST_FILES, _ROWS_PER_FILE = 16, 2500


@dataclasses.dataclass(frozen=True)
class Log:
    """A log of impressions, and how it is split and converted.

    Args:
        table: the file below --raw.
        labels: tasks, and relations of the graph.
        nodes: columns of the heads and tails of edges.
        types: their node types.
        convert: further flags of recap_tf.convert.
        features: of the records that the config reads, without vectors.
        columns: whether the config reads columns.json.
        test_share: of the rows, the last ones.
    """

    table: str
    labels: Sequence[str]
    nodes: tuple[str, str]
    types: tuple[str, str]
    convert: Sequence[str]
    features: Sequence[str]
    columns: bool
    test_share: float

    @property
    def relations(self) -> list[str]:
        return [label.split(":")[0] for label in self.labels]


LOGS = {
    "ml100k": Log(
        table="ml100k/ratings.parquet",
        labels=("like:rating>=4", "love:rating==5", "dislike:rating<=2"),
        nodes=("user_id", "item_id"),
        types=("user", "item"),
        convert=(
            *("--join", "{raw}/ml100k/users.parquet:user_id"),
            *("--join", "{raw}/ml100k/items.parquet:item_id"),
            *("--exclude", "movie_title", "--time", "timestamp"),
            *("--history", "user_id,item_id", "--group", "user_id"),
        ),
        features=("continuous", "discrete"),
        columns=True,
        test_share=0.1,
    ),
    "kuairand": Log(
        table="kuairand/log.parquet",
        labels=(
            *("is_click", "long_view", "is_profile_enter"),
            *("is_comment", "is_forward", "is_follow"),
        ),
        nodes=("user_id", "video_id"),
        types=("user", "video"),
        convert=(
            *("--join", "{raw}/kuairand/users.parquet:user_id"),
            *("--exclude", "play_time_ms,comment_stay_time,label,date"),
            *("--time", "time_ms", "--history", "user_id,video_id"),
            *("--group", "user_id"),
        ),
        features=("continuous", "binary"),
        columns=False,
        test_share=0.19081,  # from 18 April 2022 on
    ),
}


def prepare(log: Log, args: argparse.Namespace, out: pathlib.Path) -> None:
    """Makes graph, vectors and records, unless they are there already."""
    rows = open_table(str(args.raw / log.table)).rows
    training = rows - round(rows * log.test_share)
    files = max(1, min(_MOST_FILES, training // _ROWS_PER_FILE))
    graph_files = round(files * args.graph_share)
    graph_rows = training * graph_files // files
    source = ["--input", str(args.raw / log.table), "--labels", ",".join(log.labels)]
    edges, graph = str(out / "edges.parquet"), out / "graph"
    types = [f"{name}={log.types[0]}:{log.types[1]}" for name in log.relations]
    embedder = [
        f"twhin.embedder.dim={args.dim}",
        "GlobalNegatives.count=200",
        f"twhin.train.steps={args.graph_steps}",
    ]
    embedder = ["--config", str(graph / "graph.gin"), *_sets(embedder)]
    share = ["--validation-share", repr(1 - graph_rows / rows)]
    edge_flags = ["--nodes", ",".join(log.nodes), *share, "--out", edges]
    run(out, "recap_tf.engagement_edges", *source, *edge_flags)
    vocabulary = ["--edges", edges, "--types", *types, "--out", str(graph)]
    run(out, "twhin_tf.vocabulary", *vocabulary, "--overwrite")
    run(out, "twhin_tf.train", *embedder)
    checkpoint = ["--checkpoint", str(graph / "run"), "--out", str(out / "exported")]
    few = ["twhin.export.top_k=None", "twhin.export.plot_nodes=0"]
    run(out, "twhin_tf.export", *embedder, *_sets(few), *checkpoint)
    vectors = out / "exported" / "vectors"
    joined = []
    for feature, name, column in zip(
        ("user_embedding", "author_embedding"), log.types, log.nodes, strict=True
    ):
        joined += ["--vectors", f"{feature}={vectors}/{name}.parquet:{column}"]
    flags = [flag.format(raw=args.raw) for flag in log.convert]
    flags += ["--validation-share", str(log.test_share), "--shards", str(files)]
    to = ["--out", str(out / "data"), "--overwrite"]
    run(out, "recap_tf.convert", *source, *flags, *joined, *to)
    late = out / "late"
    late.mkdir(exist_ok=True)
    for path in sorted((out / "data").glob("train-*"))[graph_files:]:
        (late / path.name).unlink(missing_ok=True)
        (late / path.name).symlink_to(path)


def run(out: pathlib.Path, module: str, *arguments: str) -> None:
    """Runs a command of the project once; its output goes to a log file."""
    log_path, done = out / f"{module}.log", out / f"{module}.done"
    text = json.dumps(arguments)
    if done.exists() and done.read_text() == text:
        return
    print(f"{module} ...", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", module, *arguments]
    with log_path.open("w") as log:
        code = subprocess.run(command, stdout=log, stderr=log, cwd=ROOT).returncode
    if code:
        raise UserError(f"{module} failed, see {log_path}.")
    done.write_text(text)


def train(
    log: Log, args: argparse.Namespace, out: pathlib.Path, side: str, seed: int
) -> dict[str, float]:
    """Trains a ranker; returns each task's AUROC on the test rows."""
    features = list(log.features)
    if side == WITH:
        features += ["user_embedding", "author_embedding"]
    data, name = out / "data", "with" if side == WITH else "without"
    save_dir = out / f"{name}-{seed}"
    bound = [
        f"Records.schema='{data}/schema.json'",
        f"train/Records.files='{out}/late/train-*'",
        f"validation/Records.files='{data}/validation-*'",
        f"Records.features={ {name: name for name in features} }",
        f"recap.train.save_dir='{save_dir}'",
        f"recap.train.seed={seed}",
        *args.overrides,
    ]
    if log.columns:
        bound.append(f"SmallEmbeddings.columns='{data}/columns.json'")
    config = ["--config", str(ROOT / "configs" / f"{args.data}.gin")]
    save_dir.mkdir(exist_ok=True)
    run(save_dir, "recap_tf.train", *config, *_sets(bound))
    report = json.loads((save_dir / "evaluation.json").read_text())
    tasks = report["sets"]["validation"]
    return {task: metrics["auroc"] for task, metrics in tasks.items()}


def _sets(bindings: Sequence[str]) -> list[str]:
    return [word for binding in bindings for word in ("--set", binding)]


def table(results: dict[str, list[dict[str, float]]]) -> str:
    """Writes the results of the seeds as a markdown table."""
    tasks = list(results[WITH][0])
    rows = [["AUROC", *tasks], ["---", *["---:"] * len(tasks)]]
    for side, runs in results.items():
        means = [statistics.mean(aurocs[task] for aurocs in runs) for task in tasks]
        rows.append([side, *(f"{mean:.4f}" for mean in means)])
    pairs = list(zip(results[WITH], results[WITHOUT], strict=True))
    differences = [[a[task] - b[task] for a, b in pairs] for task in tasks]
    rows.append(["difference", *map(_mean, differences)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _mean(values: Sequence[float]) -> str:
    mean = f"{statistics.mean(values):+.4f}"
    if len(values) == 1:
        return mean
    return f"{mean} ± {statistics.stdev(values) / len(values) ** 0.5:.4f}"


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", choices=list(LOGS), default="ml100k")
    parser.add_argument(
        "--raw", type=pathlib.Path, required=True, help="folder of the data sets"
    )
    parser.add_argument("--seeds", type=int, default=3, help="runs of each side")
    parser.add_argument(
        "--graph-share",
        type=float,
        default=0.5,
        help="of the training period, for the graph",
    )
    parser.add_argument("--dim", type=int, default=16, help="of the vectors")
    parser.add_argument("--graph-steps", type=int, default=1000)
    parser.add_argument("--out", type=pathlib.Path, default="runs/twhin_join")
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="Class.parameter=value",
        help="a setting of every ranker",
    )
    args = parser.parse_args(argv)
    if not 0 < args.graph_share < 1:
        raise UserError(f"--graph-share must be in (0, 1), not {args.graph_share}.")
    args.raw = args.raw.resolve()
    name = f"{args.data}-{args.graph_share:g}-{args.dim}-{args.graph_steps}"
    log, out = LOGS[args.data], args.out.resolve() / name
    out.mkdir(parents=True, exist_ok=True)
    prepare(log, args, out)
    text = (out / "recap_tf.convert.log").read_text()
    print(*(line for line in text.splitlines() if "have one" in line), sep="\n")
    results: dict[str, list[dict[str, float]]] = {WITHOUT: [], WITH: []}
    for seed in range(args.seeds):
        for side, runs in results.items():
            runs.append(train(log, args, out, side, seed))
        print(f"{seed + 1} seeds\n{table(results)}", flush=True)


if __name__ == "__main__":
    sys.exit(run_command(main))
