"""Graph embeddings of users, posts and ads: TwHIN (arXiv:2202.05387).

The rooms in reading order; none imports one below it:

    graph       what a folder of edges holds, and batches of its edges
    conversion  edges with any ids -> a graph folder
    synthesis   graph folders that are made up
    model       edges -> scores -> loss
    partitions  tables larger than memory
    evaluation  ranks of held-out edges
    exporting   a trained model -> vectors, plots, retrieval SavedModels
    settings    what a config file says, as one object per command
    training    settings -> checkpoints

A verb beside them is a command, a leaf. Of `recap_tf`, only `core` is imported.

What a Keras user would use alone is imported from here: `from twhin_tf import Graph`.
"""

# Says which Keras before TensorFlow is imported, and silences its start-up.
import recap_tf  # noqa: F401

# isort: split
from recap_tf.core.face import lazy_face

__getattr__, __dir__, __all__ = lazy_face(
    __name__,
    {
        "evaluation.filtered_ranks": ["rank_edges"],
        "evaluation.known_answers": ["KnownAnswers"],
        "evaluation.rank_metrics": ["rank_metrics"],
        "exporting.inverted_file": ["CellIndex"],
        "exporting.neighbours": ["exact_neighbours"],
        "exporting.product_quantization": ["ProductQuantization", "quantize"],
        "graph.edge_batches": ["Edges", "read_edge_batches"],
        "graph.graph": ["Graph", "NodeType", "Relation", "read_graph"],
        "model.comparators": ["Cosine", "Dot"],
        "model.graph_embeddings": ["GraphEmbeddings"],
        "model.losses": ["LogisticLoss", "SoftmaxLoss"],
        "model.node_tables": ["NodeTable", "NodeTables"],
        "model.operators": [
            "ComplexDiagonal",
            "Diagonal",
            "Identity",
            "Linear",
            "RelationOperators",
            "Translation",
        ],
    },
)
