"""Graph folders that are made up: node types, relations, communities, splits."""

import dataclasses
import json
import posixpath
import zlib
from collections.abc import Callable, Iterator, Mapping

import gin
import numpy as np
import pyarrow as pa
import tensorflow as tf
import tqdm

from recap_tf.core import files
from recap_tf.core.command import UserError
from recap_tf.core.made_data import check_free, read_manifest, write_manifest
from twhin_tf.graph.edge_buckets import EdgeBuckets, bucket_count
from twhin_tf.graph.edge_files import write_edges
from twhin_tf.graph.edge_hashes import hashed_edges, mixed
from twhin_tf.graph.entities import (
    Entities,
    fingerprint,
    vocabulary_path,
    write_entities,
)
from twhin_tf.graph.graph import (
    Graph,
    NodeType,
    Relation,
    read_graph,
    with_inverses,
    write_graph,
)
from twhin_tf.graph.graph_config import write_config
from twhin_tf.synthesis.community_model import CommunityRelation, Nodes

SPLITS = ("train", "validation", "test")
_CHUNK = 1 << 20
_MOST_RANKED = 2000  # held-out edges of a relation, for the best reachable MRR
_VERSION = 1


@gin.register
@dataclasses.dataclass(frozen=True, kw_only=True)
class SyntheticGraph:
    """What graph to make up.

    Args:
        folder: where it goes.
        nodes: type -> how many.
        relations: name -> (type on the left, type on the right, edges, probability
            that both nodes are of one community). Equal edges are drawn once, so
            that somewhat fewer come out.
        communities: how many there are, the same for all types.
        exponent: the share of nodes with degree d falls as d^-exponent; above 1.
        held_out: shares of edges for validation and for the test.
        inverse: give every relation an inverse.
        seed: of all that is drawn.
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
            if count < 2:
                raise ValueError(
                    f"SyntheticGraph.nodes[{name!r}] must be at least 2. Received: "
                    f"{count}"
                )
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
        for name, least in (("communities", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise ValueError(
                    f"SyntheticGraph.{name} must be at least {least}. Received: "
                    f"{getattr(self, name)}"
                )
        if self.exponent <= 1.0:
            raise ValueError(
                f"SyntheticGraph.exponent must be above 1. Received: {self.exponent}"
            )
        if min(self.held_out) < 0 or sum(self.held_out) >= 1:
            raise ValueError(
                "SyntheticGraph.held_out must be two shares that leave edges to train "
                f"on. Received: {self.held_out}"
            )


def make_graph(made: SyntheticGraph, echo: Callable[[str], None] = print) -> Graph:
    """Makes `made.folder`, or nothing if the same graph is there already.

    The folder appears when all of it is complete; beside the graph it holds
    synthetic.json: {"settings": {...}, "best_mrr": {relation: MRR}}, the raw tail MRR
    on test edges of the true probabilities. The same settings give the same bytes.

    Args:
        made: what graph.
        echo: takes a few lines.

    Raises:
        UserError: the folder holds something else.
    """
    settings = _settings(made)
    manifest = read_manifest(made.folder)
    if manifest is None or manifest["settings"] != settings:
        try:
            check_free(made.folder, manifest, settings)
        except FileExistsError as error:
            raise UserError(str(error)) from error
        with files.new_folder(made.folder) as aside:
            best = _write(made, aside, echo)
            write_manifest(aside, {"settings": settings, "best_mrr": best})
    return read_graph(made.folder)


def _write(made: SyntheticGraph, folder: str, echo) -> dict[str, float]:
    nodes = {
        name: Nodes(count, made.communities, made.exponent, _rng(made, name))
        for name, count in made.nodes.items()
    }
    relations = [
        CommunityRelation(nodes[lhs], nodes[rhs], inside)
        for lhs, rhs, _, inside in made.relations.values()
    ]
    total = sum(edges for _, _, edges, _ in made.relations.values())
    buckets = EdgeBuckets(
        posixpath.join(folder, ".buckets"), bucket_count(total), made.seed
    )
    with buckets:
        _draw(made, relations, total, buckets)
        # As numbers of nodes; their rows are known when all are counted.
        degrees = _degrees(made, buckets)
        rows = {name: _rows_by_degree(counts) for name, counts in degrees.items()}
        graph = _graph(made, folder, nodes, degrees, rows)
        edges, test = _write_splits(made, graph, buckets, rows)
    graph = dataclasses.replace(graph, splits=edges)
    write_config(graph)
    write_graph(graph)
    best = {
        name: relation.best_mrr(found[:, [0, 2]])
        for name, relation, found in zip(made.relations, relations, test, strict=True)
        if len(found)
    }
    for name, count in edges.items():
        echo(f"{name}: {count:,} edges")
    for name, mrr in best.items():
        echo(f"{name}: best reachable raw tail MRR {mrr:.4f}")
    return best


def _draw(made, relations, total: int, buckets: EdgeBuckets) -> None:
    with tqdm.tqdm(total=total, unit=" edges", unit_scale=True) as progress:
        for number, (name, (_, _, count, _)) in enumerate(made.relations.items()):
            rng = _rng(made, f"relation {name}")
            for start in range(0, count, _CHUNK):
                drawn = relations[number].draw(min(_CHUNK, count - start), rng)
                edges = np.insert(drawn, 1, number, axis=1)
                buckets.add(edges, hashed_edges(edges))
                progress.update(min(_CHUNK, count - start))


def _bins(
    made: SyntheticGraph, buckets: EdgeBuckets
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields some distinct edges and their splits, places in `SPLITS`."""
    seed = mixed(made.seed)
    ends = np.cumsum([1 - sum(made.held_out), made.held_out[0]])
    for edges, _ in buckets.read("drop"):
        uniform = mixed(hashed_edges(edges) ^ seed) / 2.0**64
        yield edges, np.searchsorted(ends, uniform, side="right")


def _degrees(made: SyntheticGraph, buckets: EdgeBuckets) -> dict[str, np.ndarray]:
    """Type -> training edges of each node."""
    counts = {name: np.zeros(count, np.int64) for name, count in made.nodes.items()}
    for edges, split in _bins(made, buckets):
        training = edges[split == 0]
        for number, (lhs, rhs, _, _) in enumerate(made.relations.values()):
            mine = training[training[:, 1] == number]
            counts[lhs] += np.bincount(mine[:, 0], minlength=len(counts[lhs]))
            counts[rhs] += np.bincount(mine[:, 2], minlength=len(counts[rhs]))
    return counts


def _rows_by_degree(degrees: np.ndarray) -> np.ndarray:
    """Node -> row; rows go by falling degree, as `twhin_tf.vocabulary` gives them."""
    rows = np.empty(len(degrees), np.int64)
    rows[np.argsort(-degrees, kind="stable")] = np.arange(len(degrees))
    return rows


def _graph(made, folder, nodes, degrees, rows) -> Graph:
    types = {}
    for name, own in rows.items():
        order = np.argsort(own)
        path = vocabulary_path(folder, name)
        tf.io.gfile.makedirs(posixpath.dirname(path))
        ids = pa.array(order, pa.int64())
        entities = Entities(
            ids=ids,
            counts=degrees[name][order],
            communities=nodes[name].communities[order],
        )
        write_entities(path, entities)
        types[name] = NodeType(
            name=name,
            rows=len(ids),
            vocabulary=path,
            fingerprint=fingerprint(ids),
        )
    relations = [
        Relation(name=name, lhs=lhs, rhs=rhs)
        for name, (lhs, rhs, _, _) in made.relations.items()
    ]
    if made.inverse:
        relations = with_inverses(relations)
    return Graph(folder=folder, types=types, relations=relations, splits={})


def _write_splits(
    made, graph, buckets, rows
) -> tuple[dict[str, int], list[np.ndarray]]:
    """Writes all edges; returns their number, and some of each relation's test."""
    written = dict.fromkeys(SPLITS, 0)
    test = [np.zeros((0, 3), np.int64) for _ in made.relations]
    for i, (edges, split) in enumerate(_bins(made, buckets)):
        for r in range(len(test)):
            mine = edges[(split == 2) & (edges[:, 1] == r)]
            test[r] = np.concatenate([test[r], mine])[:_MOST_RANKED]
        of_rows = edges.astype(np.int64)
        for r, (lhs, rhs, _, _) in enumerate(made.relations.values()):
            own = edges[:, 1] == r
            of_rows[own, 0] = rows[lhs][edges[own, 0]]
            of_rows[own, 2] = rows[rhs][edges[own, 2]]
        for number, name in enumerate(SPLITS):
            mine = of_rows[split == number]
            if len(mine):
                write_edges(graph, name, i, mine)
            written[name] += len(mine)
    return {name: count for name, count in written.items() if count}, test


def _rng(made: SyntheticGraph, name: str) -> np.random.Generator:
    return np.random.default_rng([made.seed, zlib.crc32(name.encode())])


def _settings(made: SyntheticGraph) -> dict:
    """All that decides the bytes, as JSON gives it back."""
    own = dataclasses.asdict(made)
    own.pop("folder")
    own["relations"] = [[name, *own["relations"][name]] for name in own["relations"]]
    return json.loads(json.dumps(own | {"version": _VERSION}))
