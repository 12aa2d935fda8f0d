"""How sure it is that the rankers beat the linear model on the sparse categorical set.

    python tests/benchmarks/categorical_compare.py --out runs/architectures

Scores the test rows with every finished run of `architectures.py --data categorical`
and prints, per architecture and task, by how much its AUROC is above that of logistic
regression, and two standard errors: of the test rows, paired (both models rank the same
rows; DeLong et al. 1988), for the mean of the seeds' scores' differences; and of the
seeds.
"""

import argparse
import pathlib
import statistics
import sys

import recap_tf  # noqa: F401  (chooses Keras 2, so before TensorFlow)

# isort: split
import categorical_set
import numpy as np

from recap_tf.core.command import UserError, run_command
from recap_tf.core.training import checkpoints
from recap_tf.evaluation.evaluator import Evaluator
from recap_tf.evaluation.validation_sets import EvaluateSettings
from recap_tf.training.trained import load_trained

SIDES = ("left", "right")


def placements(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each positive, the share of negatives below it; of each negative, the share
    of positives above it. Both means are the AUROC."""
    positive, negative = (np.sort(scores[labels == one]) for one in (1, 0))

    def below(among, values):
        left, right = (np.searchsorted(among, values, side) for side in SIDES)
        return (left + right) / 2 / len(among)

    return (
        below(negative, scores[labels == 1]),
        1 - below(positive, scores[labels == 0]),
    )


def lead(ours: np.ndarray, theirs: np.ndarray, labels: np.ndarray):
    """(runs, n) scores and (n,) others -> each run's lead in AUROC, and its error.

    The error is that of the mean of the leads over the runs, by the rows.
    """
    other = placements(theirs, labels)
    differences = [
        [own - base for own, base in zip(placements(run, labels), other, strict=True)]
        for run in ours
    ]
    by_class = [np.mean(each, axis=0) for each in zip(*differences, strict=True)]
    error = sum(d.var(ddof=1) / len(d) for d in by_class) ** 0.5
    return [float(run[0].mean()) for run in differences], float(error)


def score_test_rows(run: pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
    """(n, tasks) probabilities and labels of the test rows, in the order of the files.

    Computed once, kept beside the run.
    """
    kept = run / "test_scores.npz"
    if not kept.exists():
        path = checkpoints.choose_checkpoint(str(run / "train"))
        arguments = argparse.Namespace(
            config=f"{path}/config.gin",
            overrides=["test/Records.parallel_reads=1"],  # rows in their order
            checkpoint=path,
            best=None,
        )
        ranker, model, _ = load_trained(arguments)
        sets = [one for one in ranker.validation_sets if one.name == "test"]
        parts: list[tuple[np.ndarray, np.ndarray]] = []

        def observe(name, batch, outputs):
            probabilities = outputs["calibrated_probabilities"].numpy()
            parts.append((probabilities, batch.labels.numpy()))

        Evaluator(model, sets, EvaluateSettings()).evaluate(observe)
        scores, labels = (np.concatenate(each) for each in zip(*parts, strict=True))
        np.savez(kept, scores=scores, labels=labels)
    stored = np.load(kept)
    return stored["scores"], stored["labels"]


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", default="runs/architectures", help="of the runs")
    arguments = parser.parse_args(argv)
    folder = pathlib.Path(arguments.out).resolve() / "categorical"
    finished = sorted(path.parent for path in folder.glob("*/result.json"))
    if not finished:
        raise UserError(f"There is no finished run below {folder}.")
    linear, labels = categorical_set.linear_scores(folder.parent)
    runs: dict[str, list[np.ndarray]] = {}
    for run in finished:
        scores, own_labels = score_test_rows(run)
        if not np.array_equal(own_labels, labels):
            raise UserError(f"{run} was evaluated on other rows than the linear model.")
        runs.setdefault(run.name.split("-")[0], []).append(scores)
    for name, scores in runs.items():
        for column, task in enumerate(categorical_set.TASKS):
            leads, error = lead(
                np.stack(scores)[:, :, column], linear[:, column], labels[:, column]
            )
            spread = ""
            if len(leads) > 1:
                by_seed = statistics.stdev(leads) / len(leads) ** 0.5
                spread = f", by the seeds {by_seed:.4f}"
            mean = statistics.mean(leads)
            print(
                f"{name:10} {task:8} {mean:+.4f} over {len(leads)} seeds; standard "
                f"error by the rows {error:.4f} ({mean / error:.1f} of them){spread}"
            )


if __name__ == "__main__":
    sys.exit(run_command(main))
