"""What commands on a trained ranker have in common: finding and loading it."""

import argparse

from recap_tf import settings
from recap_tf.calibration import read_calibrators
from recap_tf.core import checkpoints, config
from recap_tf.model import RankingModel
from recap_tf.settings import Ranker
from recap_tf.training import build_model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds --config, --set and --checkpoint."""
    config.add_arguments(parser)
    parser.add_argument(
        "--checkpoint",
        required=True,
        metavar="DIR",
        help="a checkpoint's folder, or a save_dir: its best checkpoint if the run "
        "chose one, else its newest",
    )


def load_trained(
    arguments: argparse.Namespace, *, calibrated: bool = True
) -> tuple[Ranker, RankingModel, str]:
    """The ranker that the arguments describe, its trained model, and the checkpoint.

    Args:
        arguments: of `add_arguments`.
        calibrated: give the model the checkpoint's post-hoc calibrators, if any.
    """
    config.load(arguments.config, arguments.overrides, roots=settings.ROOTS)
    ranker = settings.Ranker()
    path = checkpoints.choose_checkpoint(arguments.checkpoint)
    model = build_model(ranker)
    checkpoints.restore_model(path, model)
    if calibrated:
        model.calibrators = read_calibrators(path, ranker.tasks)
    return ranker, model, path
