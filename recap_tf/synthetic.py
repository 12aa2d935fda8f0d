"""Makes ranking data for a config, and says how well it can be ranked.

python -m recap_tf.synthetic --config configs/recap.gin --examples 200000
"""

import argparse
import dataclasses
import sys
from collections.abc import Sequence

from recap_tf.core.arguments import add_config, check_config
from recap_tf.core.command import run_command


def main(argv: Sequence[str] | None = None) -> None:
    parser = _parser()
    arguments = parser.parse_args(argv)
    check_config(arguments.config)

    from recap_tf import settings
    from recap_tf.core.config import gin_config
    from recap_tf.synthesis.record_sets import SyntheticData
    from recap_tf.training.made_sets import make_synthetic_data

    gin_config.load(arguments.config, arguments.overrides, roots=settings.ROOTS)
    ranker = settings.Ranker()
    flags = {
        name: getattr(arguments, name)
        for name in ("folder", "examples", "files", "seed")
        if getattr(arguments, name) is not None
    }
    if ranker.synthetic_data is not None:
        data = dataclasses.replace(ranker.synthetic_data, **flags)
    elif "folder" in flags:
        data = SyntheticData(**flags)
    else:
        parser.error("--out is required: recap.ranker.synthetic_data is not set")
    make_synthetic_data(ranker, data, print)
    print(f"All of it is in {data.folder}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m recap_tf.synthetic",
        description="Makes gzip TFRecords of the config's schema: the training set and "
        "every validation set, with labels that depend on the features.",
    )
    add_config(parser)
    # What is not given is as SyntheticData in the config says.
    parser.add_argument("--out", dest="folder", metavar="DIR", help="where it goes")
    parser.add_argument(
        "--examples", type=int, metavar="N", help="size of the training set"
    )
    parser.add_argument(
        "--files", type=int, metavar="K", help="files of the training set"
    )
    parser.add_argument("--seed", type=int, metavar="S")
    return parser


if __name__ == "__main__":
    sys.exit(run_command(main))
