"""The folder of an export: all forms in which a trained model is handed on.

    DIR/vectors/TYPE.parquet, TYPE.npy      entity and vector; the plain array
    DIR/quantized/TYPE.npz                  product-quantized vectors
    DIR/projector/                          tensorboard --logdir DIR/projector
    DIR/plot.png                            a projection to two dimensions
    DIR/retrieval/exact/1 ...               SavedModels that find neighbours, one more
    DIR/retrieval/approximate/1 ...         version with every export

Each appears complete or not at all, in place of what was there.
"""

import dataclasses
import json
import posixpath
from collections.abc import Callable, Mapping
from typing import Any

import gin
import numpy as np
import tensorflow as tf

from recap_tf.core import files
from recap_tf.core.checks import check_range
from recap_tf.core.model_versions import next_version
from recap_tf.core.storage.half_precision import read_rows
from twhin_tf.exporting.inverted_file import InvertedFile
from twhin_tf.exporting.neighbours import exact_neighbours, recall
from twhin_tf.exporting.plot import Method, write_plot
from twhin_tf.exporting.product_quantization import ProductQuantization, quantize
from twhin_tf.exporting.projector import write_projector
from twhin_tf.exporting.retrieval_model import RetrievalModel
from twhin_tf.exporting.vector_files import write_vectors
from twhin_tf.graph.entities import Entities, file_stem, read_entities
from twhin_tf.graph.graph import Graph
from twhin_tf.model.graph_embeddings import GraphEmbeddings
from twhin_tf.partitions.disk_tables import check_in_memory

Echo = Callable[[str], None]
RECALL_AT = 10
RETRIEVAL_FILE = "retrieval.json"
"""In assets.extra of a retrieval model: its step, signatures and recall."""


@gin.configurable("export", module="twhin")
@dataclasses.dataclass(frozen=True, kw_only=True)
class VectorExportSettings:
    """The forms in which a trained model is exported.

    Args:
        folder: where to at the end of training; None for no export then.
        quantization: how vectors are compressed; None leaves that out.
        top_k: neighbours that a retrieval model gives, at least 1; None leaves the
            retrieval models out.
        cells: of the approximate retrieval model; None leaves that out.
        projector_nodes: of each type, the most frequent ones; 0 leaves it out.
        plot_nodes: of all types together; 0 leaves it out.
        plot_method: "tsne" keeps neighbours together, "pca" large distances apart.
        recall_queries: nodes of each type on which the loss of approximations is
            measured, at least 1.
        seed: of the choice of these nodes.
    """

    folder: str | None = None
    quantization: ProductQuantization | None = dataclasses.field(
        default_factory=ProductQuantization
    )
    top_k: int | None = 100
    cells: InvertedFile | None = dataclasses.field(default_factory=InvertedFile)
    projector_nodes: int = 10_000
    plot_nodes: int = 3000
    plot_method: Method = "tsne"
    recall_queries: int = 1000
    seed: int = 0

    def __post_init__(self):
        none = "no retrieval models"
        check_range("twhin.export.top_k", self.top_k, at_least=1, none=none)
        check_range("twhin.export.recall_queries", self.recall_queries, at_least=1)
        for name in ("projector_nodes", "plot_nodes", "seed"):
            check_range(f"twhin.export.{name}", getattr(self, name), at_least=0)

    @property
    def takes_tables_whole(self) -> bool:
        """Tells whether the tables have to fit into memory."""
        return self.quantization is not None or self.top_k is not None


def export_vectors(
    model: GraphEmbeddings,
    graph: Graph,
    folder: str,
    settings: VectorExportSettings,
    step: int,
    echo: Echo = print,
) -> None:
    """Writes all that `settings` asks for below `folder`.

    Args:
        model: trained.
        graph: that the model was trained on.
        folder: of the export; what other exports left there is replaced.
        settings: the forms to export.
        step: of the training, for the retrieval models.
        echo: takes lines that say what was written, how large it is, and what
            approximations lose.

    Raises:
        UserError: a vocabulary does not belong to the graph; tables are on disk and
            have to be in memory.
    """
    if settings.takes_tables_whole:
        check_in_memory(model)
    entities = {name: read_entities(graph, name) for name in graph.types}
    with files.new_folder(posixpath.join(folder, "vectors"), replace=True) as aside:
        for name, table in model.tables.items():
            paths = write_vectors(aside, name, entities[name].ids, table)
            count, dim = table.shape
            sizes = ", ".join(f"{_suffix(path)} {_size(path)}" for path in paths)
            echo(f"vectors/{file_stem(name)}: {count:,} of {dim}; {sizes}")
    if settings.quantization is not None:
        _write_quantized(model, folder, settings, echo)
    if settings.projector_nodes:
        path = posixpath.join(folder, "projector")
        with files.new_folder(path, replace=True) as aside:
            paths = write_projector(
                aside, _first(model, settings.projector_nodes), entities
            )
            echo(f"projector: {_size(*paths)}")
    if settings.plot_nodes:
        _write_plot(model, entities, folder, settings, echo)
    if settings.top_k is not None:
        _write_retrieval(model, graph, entities, folder, settings, step, echo)


def _write_quantized(
    model: GraphEmbeddings, folder: str, settings: VectorExportSettings, echo: Echo
) -> None:
    with files.new_folder(posixpath.join(folder, "quantized"), replace=True) as aside:
        for name, table in model.tables.items():
            vectors = tf.cast(tf.convert_to_tensor(table), tf.float32).numpy()
            quantized = quantize(vectors, settings.quantization)
            path = posixpath.join(aside, f"{file_stem(name)}.npz")
            quantized.write(path)
            rng = np.random.default_rng(settings.seed)
            rows = rng.permutation(len(vectors))[: settings.recall_queries]
            k = min(RECALL_AT, len(vectors))
            share = recall(
                exact_neighbours(vectors[rows], quantized.vectors(), k),
                exact_neighbours(vectors[rows], vectors, k),
            )
            echo(
                f"quantized/{file_stem(name)}.npz: {_size(path)}, "
                f"{quantized.codes.shape[1]} bytes per vector, "
                f"{vectors.nbytes / quantized.bytes:.1f} times smaller than float32; "
                f"finds {share:.1%} of the {k} nearest"
            )


def _write_plot(
    model: GraphEmbeddings,
    entities: Mapping[str, Entities],
    folder: str,
    settings: VectorExportSettings,
    echo: Echo,
) -> None:
    vectors = _first(model, -(-settings.plot_nodes // len(model.tables)))
    if sum(map(len, vectors.values())) < 4:
        echo("plot.png: left out, it takes 4 nodes")
        return
    communities = {}
    for name, of_type in vectors.items():
        known = entities[name].communities
        communities[name] = None if known is None else known[: len(of_type)]
    path = posixpath.join(folder, "plot.png")
    with files.replacing(path) as aside:
        write_plot(aside, vectors, communities, settings.plot_method)
    echo(f"plot.png: {_size(path)}")


def _write_retrieval(
    model: GraphEmbeddings,
    graph: Graph,
    entities: Mapping[str, Entities],
    folder: str,
    settings: VectorExportSettings,
    step: int,
    echo: Echo,
) -> None:
    ids = {name: of_type.ids for name, of_type in entities.items()}
    exact = RetrievalModel(model, graph, ids, settings.top_k)
    _save_retrieval(exact, folder, "exact", {"step": step}, echo)
    if settings.cells is None:
        return
    approximate = RetrievalModel(model, graph, ids, settings.top_k, settings.cells)
    measured = {}
    for name in graph.types:
        k = min(RECALL_AT, settings.top_k, graph.types[name].rows)
        measured[name] = _recall(exact, approximate, name, k, settings)
    _save_retrieval(
        approximate,
        folder,
        "approximate",
        {"step": step, f"recall@{RECALL_AT}": measured},
        echo,
    )
    for name, share in measured.items():
        index = approximate.indexes[name]
        echo(
            f"  {name}: finds {share:.1%} of the {RECALL_AT} best, in "
            f"{index.probes} of {index.cells} cells"
        )


def _recall(
    exact: RetrievalModel,
    approximate: RetrievalModel,
    name: str,
    k: int,
    settings: VectorExportSettings,
) -> float:
    """Measures the recall of the `k` best nodes of type `name`.

    It is the mean over all signatures that give such nodes.
    """
    rng = np.random.default_rng(settings.seed)
    shares = []
    for pair in exact.pairs:
        if pair.rhs != name:
            continue
        rows = exact.graph.types[pair.lhs].rows
        entities = rng.permutation(rows)[: settings.recall_queries]
        entities = tf.gather(exact.ids[pair.lhs], entities)
        inputs = {"entities": entities}
        if pair.relations:
            names = rng.choice(list(pair.relations), len(entities))
            inputs["relations"] = tf.constant(names)
        expected, retrieved = (
            retrieval.functions[pair.signature](**inputs)["neighbours"].numpy()[:, :k]
            for retrieval in (exact, approximate)
        )
        shares.append(recall(retrieved, expected))
    return float(np.mean(shares))


def _save_retrieval(
    retrieval: RetrievalModel,
    folder: str,
    name: str,
    described: dict[str, Any],
    echo: Echo,
) -> None:
    base = posixpath.join(folder, "retrieval", name)
    version = next_version(base)
    path = posixpath.join(base, str(version))
    with files.new_folder(path) as aside:
        retrieval.save(aside)
        extra = posixpath.join(aside, "assets.extra", RETRIEVAL_FILE)
        described = described | {"signatures": list(retrieval.functions)}
        files.write_text(extra, json.dumps(described, indent=1) + "\n")
    echo(f"retrieval/{name}/{version}: {_size(*_files_below(path))}")


def _first(model: GraphEmbeddings, count: int) -> dict[str, np.ndarray]:
    """Reads the vectors of the first rows, which are the most frequent nodes."""
    return {
        name: read_rows(table, tf.range(min(count, table.shape[0]))).numpy()
        for name, table in model.tables.items()
    }


def _files_below(folder: str) -> list[str]:
    return [
        posixpath.join(at, name)
        for at, _, names in tf.io.gfile.walk(folder)
        for name in names
    ]


def _size(*paths: str) -> str:
    """Writes the size of files for people: "1.23 MB"."""
    size = sum(tf.io.gfile.stat(path).length for path in paths)
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"


def _suffix(path: str) -> str:
    return posixpath.splitext(path)[1]
