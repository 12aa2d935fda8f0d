"""Ops that TensorFlow itself lacks: those of the packages that TF Serving links in."""

import importlib
import importlib.util

from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow.python.framework import op_def_registry

_PACKAGES = ("tensorflow_text", "tensorflow_decision_forests")


def register_ops(meta_graph: meta_graph_pb2.MetaGraphDef) -> str | None:
    """Imports the packages that may have ops of the graph, if it has unknown ones.

    Returns:
        a line that says which ops are still unknown, and what became of the packages;
        None if all are known.
    """
    if not _unknown(meta_graph):
        return None
    found = {package: _import(package) for package in _PACKAGES}
    unknown = _unknown(meta_graph)
    if not unknown:
        return None
    return (
        f"Op type not registered: {', '.join(unknown)}. Ops come with packages: "
        + ", ".join(f"{p.replace('_', '-')} {what}" for p, what in found.items())
    )


def _import(package: str) -> str:
    """What became of the attempt to import it."""
    if importlib.util.find_spec(package) is None:
        return "is not installed"
    try:
        importlib.import_module(package)
    except Exception as error:  # Built for another TensorFlow, most of the time.
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return f"cannot be imported ({reason})"
    return "is imported and has no such op"


def _unknown(meta_graph: meta_graph_pb2.MetaGraphDef) -> list[str]:
    """The ops of the graph and its functions that nobody has registered."""
    graph = meta_graph.graph_def
    ops = {node.op for node in graph.node}
    for function in graph.library.function:
        ops |= {node.op for node in function.node_def}
    ops -= {function.signature.name for function in graph.library.function}
    return sorted(op for op in ops if op_def_registry.get(op) is None)
