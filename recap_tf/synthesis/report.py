"""What a made-up data set is, what it holds, and how well it can be ranked."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from recap_tf.data.sampling import SamplingRates
from recap_tf.metrics.auroc import weighted_auroc


@dataclasses.dataclass(frozen=True, kw_only=True)
class SyntheticSet:
    """One data set to make.

    Args:
        examples: how many, over all files.
        files: how many; at most `examples`.
        sampling_rates: task -> (share of positives kept, share of negatives kept) of
            the sampling that the set looks like; all kept where not listed. See
            `ExampleSource.draw`.
        dated: in dated folders, if the data is a log.
    """

    examples: int
    files: int
    sampling_rates: SamplingRates
    dated: bool = False


def describe_set(
    spec: SyntheticSet, names: Sequence[str], logits: np.ndarray, labels: np.ndarray
) -> dict:
    """The manifest's entry of a set.

    Args:
        names: of the labels.
        logits, labels: (examples, labels), true log-odds and what was drawn from them.
            Who knows the hidden model can rank no better than by these log-odds.
    """
    tasks = {}
    for name, scores, drawn in zip(names, logits.T, labels.T, strict=True):
        best, missing = weighted_auroc(
            tf.constant(scores), tf.where(tf.constant(drawn), 1.0, -1.0)
        )
        tasks[name] = {
            "positives": int(drawn.sum()),
            "sampling_rates": list(spec.sampling_rates.get(name, (1.0, 1.0))),
            "best_auroc": None if missing else round(float(best), 6),
        }
    return {"examples": len(labels), "files": spec.files, "tasks": tasks}


def format_set(name: str, report: dict, tasks: Sequence[str]) -> str:
    """A set's manifest entry for people to read, of the given tasks only."""
    rows = []
    for task in tasks:
        about = report["tasks"][task]
        share = about["positives"] / report["examples"]
        best = about["best_auroc"]
        best = "no value" if best is None else f"{best:.4f}"
        rows.append((task, f"{about['positives']:,}", f"{share:.2%}", best))
    title = f"{name}: {report['examples']:,} examples in {report['files']} files"
    if len(rows) == 1:
        task, positives, share, best = rows[0]
        return f"{title}; {task}: {positives} positives ({share}), best AUROC {best}"
    width = max(len(task) for task in tasks)
    rows.insert(0, ("task", "positives", "share", "best AUROC"))
    return "\n".join(
        [title]
        + [f"  {task:{width}}  {p:>9}  {s:>7}  {best:>10}" for task, p, s, best in rows]
    )
