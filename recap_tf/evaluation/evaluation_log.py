"""Where the evaluations of a run are written down, and read again.

Curves in TensorBoard, a JSON file per step in the run's history, and a mark with the
same content in the checkpoint, one per validation set.
"""

import json
from collections.abc import Iterable, Mapping

from recap_tf.core.training.logs import Logs
from recap_tf.evaluation import evaluation_marks
from recap_tf.evaluation.evaluation_report import Report, SetReport, as_json, from_json
from recap_tf.evaluation.slices import EVERYTHING


def write_curves(logs: Logs, step: int, name: str, report: SetReport) -> None:
    """Adds what set `name` gave to TensorBoard: metric/TASK and metric/TASK/SLICE."""
    values = {}
    for part, tasks in report.items():
        end = "" if part == EVERYTHING else f"/{part}"
        for task, metrics in tasks.items():
            for metric, measured in metrics.items():
                values[f"{metric}/{task}{end}"] = measured.value
    logs.write(name, step, values)


def write_history(save_dir: str, step: int, report: Report) -> None:
    """Writes the run's evaluation of a step, on all sets."""
    evaluation_marks.write_history(save_dir, step, as_json(step, report))


def mark(path: str, step: int, report: Report) -> None:
    """Marks the checkpoint in folder `path` as evaluated on the sets of `report`.

    Raises:
        CheckpointGone: it was deleted.
    """
    for name, of_set in report.items():
        evaluation_marks.mark_evaluated(path, name, as_json(step, {name: of_set}))


def marks_as_texts(step: int, report: Report) -> Mapping[str, str]:
    """The marks that `mark` would make: file name within a checkpoint -> text."""
    return {
        evaluation_marks.mark_name(name): json.dumps(
            as_json(step, {name: of_set}), indent=1
        )
        + "\n"
        for name, of_set in report.items()
    }


def read_report(path: str, names: Iterable[str]) -> Report:
    """Reads the report on the sets `names` from the marks of the checkpoint `path`."""
    marks = evaluation_marks.read_marks(path)
    return {name: from_json(marks[name])[name] for name in names if name in marks}
