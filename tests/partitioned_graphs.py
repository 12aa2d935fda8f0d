"""A graph of users and items, to test partitions with."""

from twhin_tf.graph.graph import Graph, NodeType, Relation, with_inverses


def make_graph(folder="nowhere", users=10, items=7, inverse=False) -> Graph:
    relations = [
        Relation(name="buy", lhs="user", rhs="item"),
        Relation(name="know", lhs="user", rhs="user"),
    ]
    return Graph(
        folder=str(folder),
        types={
            "user": NodeType(name="user", rows=users),
            "item": NodeType(name="item", rows=items),
        },
        relations=with_inverses(relations) if inverse else relations,
        splits={"train": 0},
    )
