"""The tasks: their names, and what names them.

A task is a kind of engagement, named as its label is in the records
("recap.engagement.is_favorited"). Labels, weights and predictions are arrays of
(batch, tasks) in the model's task order; everything else about tasks is a mapping by
name, so that no column can be taken for another's.
"""

from collections.abc import Iterable, Sequence


def identifier(task: str) -> str:
    """The task's name where no dot may stand: "a.b" -> "a__b"."""
    return task.replace(".", "__")


def task_name(identifier: str) -> str:
    """The inverse of `identifier`."""
    return identifier.replace("__", ".")


def check_tasks(tasks: Sequence[str]) -> None:
    """Raises ValueError unless `tasks` are one or more different names."""
    if not tasks:
        raise ValueError("recap.ranker.tasks must name at least one task.")
    twice = sorted({task for task in tasks if list(tasks).count(task) > 1})
    if twice:
        raise ValueError(f"recap.ranker.tasks names {twice} more than once.")


def check_known(setting: str, named: Iterable[str], tasks: Sequence[str]) -> None:
    """Raises ValueError if `setting` names a task that the ranker does not have."""
    for name in named:
        if name not in tasks:
            raise ValueError(
                f"{setting} names the task {name!r}, which is not in "
                f"recap.ranker.tasks: {list(tasks)}."
            )
