"""What commands on a trained ranker have in common: finding and loading it."""

import argparse

from recap_tf import settings
from recap_tf.core.command import UserError
from recap_tf.core.config import gin_config
from recap_tf.core.training import checkpoints
from recap_tf.evaluation.best_checkpoint import best_evaluated, parse_watched
from recap_tf.evaluation.calibrator_fitting import read_calibrators
from recap_tf.model.ranking_model import RankingModel
from recap_tf.model.scorer import Scorer, with_calibrators
from recap_tf.settings import Ranker
from recap_tf.training.building import build_model


def load_trained(
    arguments: argparse.Namespace, *, calibrated: bool = True
) -> tuple[Ranker, Scorer, str]:
    """The ranker that the arguments describe, its trained model, and the checkpoint.

    Args:
        arguments: of `add_arguments`.
        calibrated: give the model the checkpoint's post-hoc calibrators, if any.
    """
    watched = None if arguments.best is None else parse_watched(arguments.best)
    ranker, model = load_untrained(arguments)
    if watched is None:
        path = checkpoints.choose_checkpoint(arguments.checkpoint)
    else:
        path, _ = best_evaluated(save_dir_of(arguments.checkpoint, "--best"), watched)
    checkpoints.restore_model(path, model)
    if calibrated:
        calibrators = read_calibrators(path, ranker.tasks)
        return ranker, with_calibrators(model, calibrators), path
    return ranker, model, path


def load_untrained(arguments: argparse.Namespace) -> tuple[Ranker, RankingModel]:
    """The ranker that the arguments describe, and its model with its first weights."""
    gin_config.load(arguments.config, arguments.overrides, roots=settings.ROOTS)
    ranker = settings.Ranker()
    return ranker, build_model(ranker)


def save_dir_of(checkpoint: str, flag: str) -> str:
    """`checkpoint`, which must be a save_dir rather than one checkpoint's folder.

    Raises:
        UserError: it is one checkpoint's folder.
    """
    if checkpoints.is_complete(checkpoint):
        raise UserError(
            f"{flag} needs the folder of a run as --checkpoint, not of one "
            f"checkpoint. Received: {checkpoint}"
        )
    return checkpoint.rstrip("/")
