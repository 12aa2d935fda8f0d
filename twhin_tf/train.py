"""Trains graph embeddings.

python -m twhin_tf.train --config configs/twhin.gin
"""

import argparse
import sys
from collections.abc import Sequence

from recap_tf.core.arguments import add_config, check_config
from recap_tf.core.command import run_command, say


def main(argv: Sequence[str] | None = None) -> None:
    arguments = _parser().parse_args(argv)
    check_config(arguments.config)

    from recap_tf.core.config import gin_config
    from recap_tf.core.training.cluster import read_task, serve
    from recap_tf.core.training.stopping import catch_signals
    from recap_tf.core.training.strategy import PARAMETER_SERVER
    from twhin_tf import settings
    from twhin_tf.exporting.export_folder import VectorExportSettings
    from twhin_tf.graph.graph import read_graph
    from twhin_tf.partitions.disk_tables import refuse_whole_tables
    from twhin_tf.synthesis.synthetic_graph import make_graph
    from twhin_tf.training.after_training import finish
    from twhin_tf.training.peak_memory import peak_megabytes
    from twhin_tf.training.trainer import GraphTrainer

    gin_config.load(arguments.config, arguments.overrides, roots=settings.ROOTS)
    embedder, train = settings.Embedder(), settings.TrainSettings()
    if train.strategy == PARAMETER_SERVER:
        task = read_task()
        if task.serves:
            serve(task)
            return
    if embedder.synthetic is not None:
        make_graph(embedder.synthetic, say)
    export = VectorExportSettings()
    if export.folder and export.takes_tables_whole:
        # Now, not at the end.
        if train.partitions is not None:
            refuse_whole_tables()
        elif train.strategy == PARAMETER_SERVER:
            refuse_whole_tables(f'twhin.train.strategy = "{PARAMETER_SERVER}"')
    in_force = gin_config.operative()
    trainer = GraphTrainer(embedder, train, in_force, eager=arguments.debug)
    trained = trainer.model.node_tables.trained
    for name, table in trainer.model.tables.items():
        note = "" if name in trained else ", in no relation: they stay as they are"
        say(f"{name}: {table.shape[0]:,} vectors of {table.shape[1]}{note}.")
    with catch_signals(say) as stop:
        outcome = trainer.run(stop)
    if outcome.interrupted:
        say(
            f"Stopped after step {outcome.step} of {train.steps}; saved in "
            f"{outcome.checkpoint}. The same command goes on from there."
        )
    elif not outcome.trained:
        say(
            f"{train.save_dir} is finished at step {outcome.step}; nothing to do. To "
            "train on, raise twhin.train.steps; to start anew, change its save_dir."
        )
    else:
        print(f"Step {outcome.step}, {outcome.checkpoint}")
        if train.partitions is not None:
            say(f"At most {peak_megabytes():,.0f} MB of memory were in use.")
        model, graph = trainer.trained_model(outcome), read_graph(embedder.graph)
        finish(model, graph, train.save_dir, outcome.step)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m twhin_tf.train", description="Trains graph embeddings."
    )
    add_config(parser)
    parser.add_argument(
        "--debug",
        action="store_true",
        help="run one plain eager step at a time, to step through with a debugger",
    )
    return parser


if __name__ == "__main__":
    sys.exit(run_command(main))
