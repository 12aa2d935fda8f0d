"""Whether two versions are the same graph with other values of its variables.

So are the versions of a model that is trained on and exported again and again. What is
made of a graph, import, optimization and compilation, is most of what a load costs, and
its like serves the next version as well.
"""

import collections
import hashlib
import re
from collections.abc import Iterator

from tensorflow.core.framework import attr_value_pb2, graph_pb2, node_def_pb2
from tensorflow.core.protobuf import meta_graph_pb2

_STATE_IN_VARIABLES = {
    "AssignAddVariableOp",
    "AssignSubVariableOp",
    "AssignVariableOp",
    "Assert",
    "Case",
    "DisableCopyOnRead",
    "If",
    "MergeV2Checkpoints",
    "PartitionedCall",
    "ReadVariableOp",
    "ResourceGather",
    "ResourceGatherNd",
    "RestoreV2",
    "SaveV2",
    "StatefulPartitionedCall",
    "VarHandleOp",
    "VarIsInitializedOp",
    "While",
}
"""The stateful ops whose state is that of variables, or that have none."""

_COSMETIC = "_user_specified_name"
"""An attribute that only messages use; of captured variables it is a number."""


def is_refillable(meta_graph: meta_graph_pb2.MetaGraphDef) -> bool:
    """Whether a session of the graph remembers variables, and nothing else.

    Tables, files and random generators are not put back by other variables.
    """
    if not any(node.op == "VarHandleOp" for node in meta_graph.graph_def.node):
        return False
    saver = meta_graph.saver_def
    if not (saver.filename_tensor_name and saver.restore_op_name):
        return False
    if meta_graph.asset_file_def:
        return False
    known = meta_graph.meta_info_def.stripped_op_list.op
    stateless = {op.name for op in known if not op.is_stateful}
    library = meta_graph.graph_def.library
    functions = {function.signature.name for function in library.function}
    if any(
        node.op == "VarHandleOp"
        for function in library.function
        for node in function.node_def
    ):
        return False  # Nothing would take it away with its version.
    return all(
        node.op in stateless or node.op in _STATE_IN_VARIABLES or node.op in functions
        for node in _nodes(meta_graph.graph_def)
    )


def fingerprint(meta_graph: meta_graph_pb2.MetaGraphDef) -> bytes:
    """A hash of the graph and its signatures: of all but the variables' values.

    The same graph, made by another process, has other numbers at the end of its
    functions' names, and its functions in another order: neither counts.
    """
    compared = meta_graph_pb2.MetaGraphDef()
    compared.graph_def.CopyFrom(meta_graph.graph_def)
    compared.saver_def.CopyFrom(meta_graph.saver_def)
    for key, signature in meta_graph.signature_def.items():
        compared.signature_def[key].CopyFrom(signature)
    for key, collection in meta_graph.collection_def.items():
        compared.collection_def[key].CopyFrom(collection)
    _rename_functions(compared.graph_def)
    return hashlib.sha256(compared.SerializeToString(deterministic=True)).digest()


def _rename_functions(graph: graph_pb2.GraphDef) -> None:
    """Names each function by its place among those of one name but for the number."""
    names = _new_names([f.signature.name for f in graph.library.function])
    for node in _nodes(graph):
        node.ClearField("experimental_debug_info")
        node.op = names.get(node.op, node.op)
        node.attr.pop(_COSMETIC, None)
        for value in node.attr.values():
            for called in _called(value):
                called.name = names.get(called.name, called.name)
    for function in graph.library.function:
        function.signature.name = names[function.signature.name]
        for argument in function.arg_attr.values():
            argument.attr.pop(_COSMETIC, None)
    graph.library.function.sort(key=lambda function: function.signature.name)


def _new_names(names: list[str]) -> dict[str, str]:
    alike = collections.defaultdict(list)
    for name in names:
        stem, number = re.fullmatch(r"(.*?)(?:_(\d+))?", name, re.DOTALL).groups()
        alike[stem].append((int(number or -1), name))
    return {
        name: f"{stem}_{i}"
        for stem, numbered in alike.items()
        for i, (_, name) in enumerate(sorted(numbered))
    }


def _nodes(graph: graph_pb2.GraphDef) -> Iterator[node_def_pb2.NodeDef]:
    yield from graph.node
    for function in graph.library.function:
        yield from function.node_def


def _called(value: attr_value_pb2.AttrValue) -> Iterator[attr_value_pb2.NameAttrList]:
    kind = value.WhichOneof("value")
    if kind == "func":
        yield value.func
    elif kind == "list":
        yield from value.list.func
