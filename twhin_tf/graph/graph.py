"""What a folder of edges holds: node types, relations, splits.

DIR/graph.json                   all that this module reads
DIR/vocabulary/TYPE.parquet      entity, row, count
DIR/SPLIT/edges-00000.parquet    lhs, rel, rhs: rows and relation numbers
"""

import dataclasses
import hashlib
import json
import posixpath
from collections.abc import Mapping, Sequence

import tensorflow as tf

from recap_tf.core import files
from recap_tf.core.command import UserError

GRAPH = "graph.json"
SPLITS = ("train", "validation", "test")
"""The splits that are made here; a folder may hold others."""
INVERSE = "/inverse"


@dataclasses.dataclass(frozen=True, kw_only=True)
class NodeType:
    """A kind of node, and the rows of its table.

    >>> NodeType(name="user", rows=1000).vocabulary is None  # A user is its row.
    True

    Args:
        name: such as "user".
        rows: of its embedding table, at least 1.
        vocabulary: path of the parquet file that names the rows, None where an entity
            is its row.
        fingerprint: see `twhin_tf.graph.entities.fingerprint`; None is not checked.
    """

    name: str
    rows: int
    vocabulary: str | None = None
    fingerprint: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Relation:
    """A kind of edge: the types of its two ends, and what it is the inverse of.

    >>> follow = Relation(name="follow", lhs="user", rhs="user")
    >>> [relation.name for relation in with_inverses([follow])]
    ['follow', 'follow/inverse']

    Args:
        name: such as "follow".
        lhs, rhs: names of the node types.
        inverse_of: the relation whose edges, turned around, are this one's; None for
            those whose edges are stored.
    """

    name: str
    lhs: str
    rhs: str
    inverse_of: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Graph:
    """A folder of edges: what their numbers mean, and how many there are.

    >>> types = {name: NodeType(name=name, rows=9) for name in ("user", "post")}
    >>> relations = with_inverses([Relation(name="like", lhs="user", rhs="post")])
    >>> graph = Graph(folder="g", types=types, relations=relations, splits={"train": 5})
    >>> [relation.name for relation in graph.relations], graph.inverses
    (['like', 'like/inverse'], [1, 0])

    Args:
        folder: holds graph.json, and a folder of parquet files per split.
        types: name -> node type.
        relations: at least one; the number of a relation is its place in here.
        splits: name, also of the folder in `folder` -> how many edges are stored.
    """

    folder: str
    types: Mapping[str, NodeType]
    relations: Sequence[Relation]
    splits: Mapping[str, int]

    def __post_init__(self):
        where = posixpath.join(self.folder, GRAPH)
        for node_type in self.types.values():
            if node_type.rows < 1:
                raise UserError(
                    f"{where}: type {node_type.name!r} must have at least 1 row. "
                    f"Received: {node_type.rows}"
                )
        if not self.relations:
            raise UserError(f"{where}: there must be at least one relation.")
        by_name: dict[str, Relation] = {}
        for relation in self.relations:
            if relation.name in by_name:
                raise UserError(f"{where}: two relations are called {relation.name!r}.")
            by_name[relation.name] = relation
            for side in ("lhs", "rhs"):
                name = getattr(relation, side)
                if name not in self.types:
                    raise UserError(
                        f"{where}: the {side} of relation {relation.name!r} must be "
                        f"one of the types {', '.join(map(repr, self.types))}. "
                        f"Received: {name!r}"
                    )
        for relation in self.relations:
            if relation.inverse_of is not None:
                _check_inverse(where, relation, by_name.get(relation.inverse_of))

    @property
    def rows(self) -> dict[str, int]:
        """The rows of each type's table, by the type's name."""
        return {name: node_type.rows for name, node_type in self.types.items()}

    @property
    def fingerprint(self) -> str:
        """A hash of what the numbers in edges mean: entities, rows and relations."""
        types = sorted((t.name, t.rows, t.fingerprint) for t in self.types.values())
        relations = [dataclasses.astuple(relation) for relation in self.relations]
        text = json.dumps([types, relations])
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    @property
    def inverses(self) -> list[int | None]:
        """The number of each relation's inverse; None if it has none.

        An inverse's inverse is its base: inverses[inverses[r]] == r.
        """
        number = {relation.name: i for i, relation in enumerate(self.relations)}
        inverses: list[int | None] = [None] * len(self.relations)
        for i, relation in enumerate(self.relations):
            if relation.inverse_of is not None:
                base = number[relation.inverse_of]
                inverses[base], inverses[i] = i, base
        return inverses

    @property
    def stored(self) -> list[bool]:
        """Whether each relation's edges are stored, as an inverse's are not."""
        return [relation.inverse_of is None for relation in self.relations]

    def edge_files(self, split: str) -> list[str]:
        """Lists the parquet files of a split, sorted.

        Raises:
            UserError: there is no such split, or no file.
        """
        if split not in self.splits:
            raise UserError(
                f"{posixpath.join(self.folder, GRAPH)} has no split {split!r}. "
                f"It has: {', '.join(map(repr, self.splits))}."
            )
        pattern = posixpath.join(self.folder, split, "*.parquet")
        paths = sorted(tf.io.gfile.glob(pattern))
        if not paths:
            raise UserError(f"{pattern} matches no file.")
        return paths


def with_inverses(relations: Sequence[Relation]) -> list[Relation]:
    """Appends to `relations` the inverse of each, in the same order."""
    return [
        *relations,
        *(
            Relation(
                name=relation.name + INVERSE,
                lhs=relation.rhs,
                rhs=relation.lhs,
                inverse_of=relation.name,
            )
            for relation in relations
        ),
    ]


def read_graph(folder: str) -> Graph:
    """Reads DIR/graph.json, which `write_graph` or another program wrote.

    >>> import tempfile
    >>> users = {"user": NodeType(name="user", rows=9)}
    >>> follow = Relation(name="follow", lhs="user", rhs="user")
    >>> folder = tempfile.mkdtemp()
    >>> write_graph(Graph(folder=folder, types=users, relations=[follow], splits={}))
    >>> read_graph(folder).rows
    {'user': 9}

    Raises:
        UserError: it is missing or does not describe a graph.
    """
    path = posixpath.join(folder, GRAPH)
    if not tf.io.gfile.exists(path):
        raise UserError(
            f"{path} does not exist; python -m twhin_tf.vocabulary makes it."
        )
    with tf.io.gfile.GFile(path) as file:
        text = file.read()
    try:
        content = json.loads(text)
        types = {
            name: NodeType(
                name=name,
                rows=_whole(entry["rows"]),
                vocabulary=entry.get("vocabulary")
                and posixpath.join(folder, entry["vocabulary"]),
                fingerprint=entry.get("fingerprint"),
            )
            for name, entry in content["types"].items()
        }
        relations = [Relation(**entry) for entry in content["relations"]]
        splits = {
            name: _whole(entry["edges"]) for name, entry in content["splits"].items()
        }
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        missing = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(f"{path} does not describe a graph: {missing}") from error
    return Graph(folder=folder, types=types, relations=relations, splits=splits)


def write_graph(graph: Graph) -> None:
    """Writes DIR/graph.json; the paths in it are relative to DIR."""
    types = {}
    for name, node_type in graph.types.items():
        path = node_type.vocabulary
        types[name] = {
            "rows": node_type.rows,
            "vocabulary": path and posixpath.relpath(path, graph.folder),
            "fingerprint": node_type.fingerprint,
        }
    content = {
        "types": types,
        "relations": [dataclasses.asdict(relation) for relation in graph.relations],
        "splits": {name: {"edges": edges} for name, edges in graph.splits.items()},
    }
    path = posixpath.join(graph.folder, GRAPH)
    files.write_text(path, json.dumps(content, indent=1) + "\n")


def _check_inverse(where: str, relation: Relation, base: Relation | None) -> None:
    if base is None or base.inverse_of is not None:
        raise UserError(
            f"{where}: inverse_of of relation {relation.name!r} must be a relation "
            f"whose edges are stored. Received: {relation.inverse_of!r}"
        )
    if (relation.lhs, relation.rhs) != (base.rhs, base.lhs):
        raise UserError(
            f"{where}: relation {relation.name!r} must go from {base.rhs!r} to "
            f"{base.lhs!r}, as the inverse of {base.name!r}. Received: "
            f"{relation.lhs!r} to {relation.rhs!r}"
        )


def _whole(value) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"expected a whole number. Received: {value!r}")
    return value
