"""Graph folders that are made up: node types, relations, communities, splits."""

import dataclasses
import json
import posixpath
import zlib
from collections.abc import Callable, Iterator, Mapping

import gin
import numpy as np
import pyarrow as pa
import tqdm

from recap_tf.core import files
from recap_tf.core.checks import check_range
from recap_tf.core.command import UserError
from recap_tf.core.made_data import check_free, read_manifest, write_manifest
from twhin_tf.graph.edge_buckets import EdgeBuckets, bucket_count
from twhin_tf.graph.edge_files import write_edges
from twhin_tf.graph.edge_hashes import hash_edges, mix
from twhin_tf.graph.entities import Entities, write_vocabulary
from twhin_tf.graph.graph import (
    SPLITS,
    Graph,
    Relation,
    read_graph,
    with_inverses,
    write_graph,
)
from twhin_tf.graph.graph_config import write_config
from twhin_tf.synthesis.community_model import CommunityRelation, Nodes

_CHUNK = 1 << 20
_MOST_RANKED = 2000  # held-out edges of a relation, for the best reachable MRR
_VERSION = 1


@gin.register
@dataclasses.dataclass(frozen=True, kw_only=True)
class SyntheticGraph:
    """The graph that is made up: its size, its communities, its degrees.

    Args:
        folder: of the graph; must not hold anything else.
        nodes: type -> its nodes, at least 2.
        relations: name -> (type on the left, type on the right, edges, probability
            that both nodes are of one community). Equal edges are drawn once, so
            that somewhat fewer come out.
        communities: their number, the same for all types.
        exponent: the share of nodes with degree d falls as d^-exponent; above 1.
        held_out: shares of edges for validation and for the test; their sum below 1.
        inverse: give every relation an inverse.
        seed: of all that is drawn, at least 0.
    """

    folder: str
    nodes: Mapping[str, int]
    relations: Mapping[str, tuple[str, str, int, float]]
    communities: int = 50
    exponent: float = 2.5
    held_out: tuple[float, float] = (0.01, 0.01)
    inverse: bool = True
    seed: int = 1

    def __post_init__(self):
        for name, count in self.nodes.items():
            check_range(f"SyntheticGraph.nodes[{name!r}]", count, at_least=2)
        if not self.relations:
            raise ValueError("SyntheticGraph.relations must hold a relation.")
        for name, (lhs, rhs, edges, inside) in self.relations.items():
            setting = f"SyntheticGraph.relations[{name!r}]"
            for side in (lhs, rhs):
                if side not in self.nodes:
                    raise ValueError(
                        f"{setting} must go between types of SyntheticGraph.nodes "
                        f"({', '.join(self.nodes)}). Received: {side!r}"
                    )
            if edges < 1 or not 0.0 <= inside <= 1.0:
                raise ValueError(
                    f"{setting} must have at least 1 edge and a probability in "
                    f"[0, 1]. Received: {edges}, {inside}"
                )
        check_range("SyntheticGraph.communities", self.communities, at_least=1)
        check_range("SyntheticGraph.seed", self.seed, at_least=0)
        check_range("SyntheticGraph.exponent", self.exponent, above=1)
        if min(self.held_out) < 0 or sum(self.held_out) >= 1:
            raise ValueError(
                "SyntheticGraph.held_out must be two shares that leave edges to train "
                f"on. Received: {self.held_out}"
            )


def make_graph(settings: SyntheticGraph, echo: Callable[[str], None] = print) -> Graph:
    """Makes the folder of a made-up graph, unless the same graph is there already.

    The folder appears when all of it is complete; beside the graph it holds
    synthetic.json: {"settings": {...}, "best_mrr": {relation: MRR}}, the raw tail MRR
    on test edges of the true probabilities. The same settings give the same bytes.

    >>> import tempfile
    >>> settings = SyntheticGraph(
    ...     folder=f"{tempfile.mkdtemp()}/likes",
    ...     nodes={"user": 200, "post": 50},
    ...     relations={"like": ("user", "post", 3000, 0.9)},
    ... )
    >>> make_graph(settings, echo=lambda line: None).rows
    {'user': 200, 'post': 50}

    Args:
        settings: of the graph.
        echo: takes lines that say how many edges there are and how well they can be
            ranked.

    Raises:
        UserError: the folder holds something else.
    """
    written = _written_settings(settings)
    manifest = read_manifest(settings.folder)
    if manifest is None or manifest["settings"] != written:
        try:
            check_free(settings.folder, manifest, written)
        except FileExistsError as error:
            raise UserError(str(error)) from error
        with files.new_folder(settings.folder) as aside:
            best = _write(settings, aside, echo)
            write_manifest(aside, {"settings": written, "best_mrr": best})
    return read_graph(settings.folder)


def _write(settings: SyntheticGraph, folder: str, echo) -> dict[str, float]:
    communities, exponent = settings.communities, settings.exponent
    nodes = {
        name: Nodes(count, communities, exponent, _rng(settings, name))
        for name, count in settings.nodes.items()
    }
    relations = [
        CommunityRelation(nodes[lhs], nodes[rhs], inside)
        for lhs, rhs, _, inside in settings.relations.values()
    ]
    total = sum(edges for _, _, edges, _ in settings.relations.values())
    buckets = EdgeBuckets(
        posixpath.join(folder, ".buckets"), bucket_count(total), settings.seed
    )
    with buckets:
        _draw(settings, relations, total, buckets)
        # As numbers of nodes; their rows are known when all are counted.
        degrees = _degrees(settings, buckets)
        rows = {name: _rows_by_degree(counts) for name, counts in degrees.items()}
        graph = _graph(settings, folder, nodes, degrees, rows)
        edges, test = _write_splits(settings, graph, buckets, rows)
    graph = dataclasses.replace(graph, splits=edges)
    write_config(graph)
    write_graph(graph)
    best = {
        name: relation.best_mrr(held_out[:, [0, 2]])
        for name, relation, held_out in zip(
            settings.relations, relations, test, strict=True
        )
        if len(held_out)
    }
    for name, count in edges.items():
        echo(f"{name}: {count:,} edges")
    for name, mrr in best.items():
        echo(f"{name}: best reachable raw tail MRR {mrr:.4f}")
    return best


def _draw(settings, relations, total: int, buckets: EdgeBuckets) -> None:
    with tqdm.tqdm(total=total, unit=" edges", unit_scale=True) as progress:
        for number, (name, (_, _, count, _)) in enumerate(settings.relations.items()):
            rng = _rng(settings, f"relation {name}")
            for start in range(0, count, _CHUNK):
                drawn = relations[number].draw(min(_CHUNK, count - start), rng)
                edges = np.insert(drawn, 1, number, axis=1)
                buckets.add(edges, hash_edges(edges))
                progress.update(min(_CHUNK, count - start))


def _split_edges(
    settings: SyntheticGraph, buckets: EdgeBuckets
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields some distinct edges and their splits, places in `SPLITS`."""
    seed = mix(settings.seed)
    ends = np.cumsum([1 - sum(settings.held_out), settings.held_out[0]])
    for edges, _ in buckets.read("drop"):
        uniform = mix(hash_edges(edges) ^ seed) / 2.0**64
        yield edges, np.searchsorted(ends, uniform, side="right")


def _degrees(settings: SyntheticGraph, buckets: EdgeBuckets) -> dict[str, np.ndarray]:
    """Counts the training edges of each node, (nodes,) for each type."""
    counts = {name: np.zeros(count, np.int64) for name, count in settings.nodes.items()}
    for edges, split in _split_edges(settings, buckets):
        training = edges[split == 0]
        for number, (lhs, rhs, _, _) in enumerate(settings.relations.values()):
            drawn = training[training[:, 1] == number]
            counts[lhs] += np.bincount(drawn[:, 0], minlength=len(counts[lhs]))
            counts[rhs] += np.bincount(drawn[:, 2], minlength=len(counts[rhs]))
    return counts


def _rows_by_degree(degrees: np.ndarray) -> np.ndarray:
    """Gives each node a row by falling degree, as `twhin_tf.vocabulary` does."""
    rows = np.empty(len(degrees), np.int64)
    rows[np.argsort(-degrees, kind="stable")] = np.arange(len(degrees))
    return rows


def _graph(settings, folder, nodes, degrees, rows) -> Graph:
    types = {}
    for name, row_of_node in rows.items():
        order = np.argsort(row_of_node)
        entities = Entities(
            ids=pa.array(order, pa.int64()),
            counts=degrees[name][order],
            communities=nodes[name].communities[order],
        )
        types[name] = write_vocabulary(folder, name, entities)
    relations = [
        Relation(name=name, lhs=lhs, rhs=rhs)
        for name, (lhs, rhs, _, _) in settings.relations.items()
    ]
    if settings.inverse:
        relations = with_inverses(relations)
    return Graph(folder=folder, types=types, relations=relations, splits={})


def _write_splits(
    settings, graph, buckets, rows
) -> tuple[dict[str, int], list[np.ndarray]]:
    """Writes all edges; returns their number, and some of each relation's test."""
    written = dict.fromkeys(SPLITS, 0)
    test = [np.zeros((0, 3), np.int64) for _ in settings.relations]
    for i, (edges, split) in enumerate(_split_edges(settings, buckets)):
        for r in range(len(test)):
            held_out = edges[(split == 2) & (edges[:, 1] == r)]
            test[r] = np.concatenate([test[r], held_out])[:_MOST_RANKED]
        of_rows = edges.astype(np.int64)
        for r, (lhs, rhs, _, _) in enumerate(settings.relations.values()):
            of_relation = edges[:, 1] == r
            of_rows[of_relation, 0] = rows[lhs][edges[of_relation, 0]]
            of_rows[of_relation, 2] = rows[rhs][edges[of_relation, 2]]
        for number, name in enumerate(SPLITS):
            of_split = of_rows[split == number]
            if len(of_split):
                write_edges(graph, name, i, of_split)
            written[name] += len(of_split)
    return {name: count for name, count in written.items() if count}, test


def _rng(settings: SyntheticGraph, name: str) -> np.random.Generator:
    return np.random.default_rng([settings.seed, zlib.crc32(name.encode())])


def _written_settings(settings: SyntheticGraph) -> dict:
    """Returns all that decides the bytes, as JSON gives it back."""
    written = dataclasses.asdict(settings) | {"version": _VERSION}
    written.pop("folder")
    relations = settings.relations.items()
    written["relations"] = [[name, *relation] for name, relation in relations]
    return json.loads(json.dumps(written))
