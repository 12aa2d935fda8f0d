"""What a finished training ends with: metrics on held-out edges, and an export."""

import json
import posixpath

from recap_tf.core import files
from twhin_tf.evaluation.edge_scorers import ModelScorer
from twhin_tf.evaluation.evaluation_report import format_report
from twhin_tf.evaluation.evaluator import LinkPredictionSettings, evaluate
from twhin_tf.exporting.export_folder import VectorExportSettings, export_vectors
from twhin_tf.graph.graph import Graph
from twhin_tf.model.graph_embeddings import GraphEmbeddings


def finish(model: GraphEmbeddings, graph: Graph, save_dir: str, step: int) -> None:
    """Evaluates and exports as twhin.evaluate and twhin.export say.

    The metrics are also in SAVE_DIR/evaluation.json. A graph without the split of
    twhin.evaluate is not evaluated; without twhin.export.folder nothing is exported.

    Args:
        model: trained.
        graph: its graph.
        save_dir: of the run.
        step: after which it is.
    """
    evaluation, export = LinkPredictionSettings(), VectorExportSettings()
    if evaluation.split in graph.splits:
        report = evaluate(ModelScorer(model), graph, evaluation, progress=True)
        print(f"{report['split']}, filtered\n{format_report(report)}")
        path = posixpath.join(save_dir, "evaluation.json")
        files.write_text(path, json.dumps({"step": step, **report}, indent=1) + "\n")
    if export.folder is not None:
        print(f"Exported to {export.folder}:")
        export_vectors(model, graph, export.folder, export, step)
