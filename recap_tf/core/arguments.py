"""The flags that several commands take; nothing here is slow to import.

A command imports what it works with after its flags are parsed, at the head of the
function that works with it: --help and a mistyped flag must not wait for TensorFlow.
"""

import argparse
import os

from recap_tf.core.command import UserError


def add_config(parser: argparse.ArgumentParser) -> None:
    """Adds --config FILE as `config` and --set Class.parameter=value as `overrides`."""
    parser.add_argument(
        "--config", metavar="FILE", required=True, help="the gin file with the settings"
    )
    parser.add_argument(
        "--set",
        metavar="Class.parameter=value",
        dest="overrides",
        action="append",
        default=[],
        help="a setting that wins over the file's; may be given more than once",
    )


def add_checkpoint(parser: argparse.ArgumentParser, *, best: bool) -> None:
    """Adds --checkpoint DIR, and --best if evaluations choose among checkpoints."""
    chosen = ": its best checkpoint if the run chose one, else its newest"
    parser.add_argument(
        "--checkpoint",
        required=True,
        metavar="DIR",
        help="a checkpoint's folder, or a save_dir"
        + (chosen if best else " for its newest"),
    )
    if best:
        parser.add_argument(
            "--best",
            metavar="SET/METRIC[/TASK]",
            help="the checkpoint below the save_dir whose evaluation on SET has the "
            "best METRIC of TASK, or on the mean of its tasks: validation/auroc",
        )


def check_config(path: str) -> None:
    """Raises UserError if --config names no file.

    Paths of other file systems are left to TensorFlow, which knows them.
    """
    if "://" not in path and not os.path.isfile(path):
        raise UserError(f"The config file {path} does not exist.")
