"""The score of edges, the loss of a batch and its gradients."""

import numpy as np
import pytest
import tensorflow as tf

from recap_tf.core.row_optimizers import LazyAdam, SparseSGD
from twhin_tf.comparators import Cosine, Dot
from twhin_tf.graph import Graph, NodeType, Relation
from twhin_tf.losses import LogisticLoss, SoftmaxLoss
from twhin_tf.model import EdgeObjective, GraphEmbeddings, Penalty
from twhin_tf.negatives import GlobalNegatives, InBatchNegatives
from twhin_tf.node_tables import NodeTable, NodeTables
from twhin_tf.operators import (
    ComplexDiagonal,
    Diagonal,
    Identity,
    Linear,
    RelationOperators,
    Translation,
)


def make_graph(rows: dict[str, int], relations: list[tuple[str, str, str]]) -> Graph:
    return Graph(
        folder="nowhere",
        types={name: NodeType(name=name, rows=n) for name, n in rows.items()},
        relations=[Relation(name=n, lhs=left, rhs=r) for n, left, r in relations],
        splits={},
    )


def make_model(
    graph, dim, operator=Translation, comparator=None, operators=None, **table
):
    names = [relation.name for relation in graph.relations]
    return GraphEmbeddings(
        NodeTables(graph, dim, NodeTable(**table), {}),
        RelationOperators(names, operator, operators or {}),
        comparator or Dot(),
        SparseSGD,
    )


def make_objective(model, negatives, loss=None, **settings):
    for sampler in negatives:
        sampler.prepare(model.node_tables, {})
    settings = {"mask_known": "nothing"} | settings
    return EdgeObjective(model, negatives, loss or LogisticLoss(), **settings)


def golden_case(arrays):
    """The graph, the model with the golden weights, and the edges of a golden file."""
    names = [str(name) for name in arrays["table_names"]]
    tables = {name: arrays[f"table/{name}"] for name in names}
    ends = arrays["relation_lhs_rhs_table_index"]
    graph = make_graph(
        {name: len(table) for name, table in tables.items()},
        [(f"r{i}", names[left], names[right]) for i, (left, right) in enumerate(ends)],
    )
    model = make_model(graph, arrays["translations"].shape[1])
    for name, table in tables.items():
        model.tables[name].assign(table)
    translations = model.operators.trainable_weights[0]
    translations.assign(arrays["translations"])
    edges = np.stack([arrays["lhs"], arrays["rel"], arrays["rhs"]], axis=1)
    return model, translations, tf.constant(edges, tf.int32)


def golden_places(arrays, side):
    """(relations, negatives): the golden permutations as places in the batch."""
    count, places = int(arrays["in_batch_negatives"]), []
    for number in range(len(arrays["relation_lhs_rhs_table_index"])):
        permutation = arrays[f"permutation/relation_{number}/{side}"]
        members = np.flatnonzero(arrays["rel"] == number)
        places.append(np.resize(members[permutation], count))
    return tf.constant(np.stack(places), tf.int32)


GOLDEN = ["twhin_four_relations", "twhin_three_tables"]


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_lookup(golden, name):
    arrays = golden(name)
    model, _, edges = golden_case(arrays)
    batch = model.read(edges)
    # The released code scores lhs . (rhs + translation), which is no score of ours.
    own = tf.gather(arrays["translations"], edges[:, 1])
    released = np.sum(batch.vectors["lhs"] * (batch.vectors["rhs"] + own), axis=1)
    np.testing.assert_allclose(released, arrays["released/positive_logits"], atol=1e-6)


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_scores_loss_and_gradients(golden, name):
    arrays = golden(name)
    model, translations, edges = golden_case(arrays)
    sampler = InBatchNegatives(int(arrays["in_batch_negatives"]))
    objective = make_objective(model, [sampler])
    with tf.GradientTape() as tape:
        batch = model.read(edges)
        drawn = [
            (side, sampler.at(batch, side, golden_places(arrays, side)))
            for side in ("lhs", "rhs")
        ]
        positives = model.scores(batch)
        scores = {s: model.candidate_scores(batch, s, found) for s, found in drawn}
        loss, _ = tf.unstack(objective.of_candidates(batch, drawn))
    weights = [*model.tables.values(), translations]
    found = tape.gradient(loss, weights)
    found = [tf.convert_to_tensor(gradient) for gradient in found]
    np.testing.assert_allclose(positives, arrays["paper/positive_logits"], atol=1e-6)
    for number in range(translations.shape[0]):
        members = np.flatnonzero(arrays["rel"] == number)
        for side in ("lhs", "rhs"):
            expected = arrays[
                f"paper/negative_logits/relation_{number}/corrupted_{side}"
            ]
            np.testing.assert_allclose(
                scores[side].numpy()[members], expected, atol=1e-6
            )
    np.testing.assert_allclose(loss, arrays["paper/loss"], atol=1e-6)
    for table, gradient in zip(model.tables, found, strict=False):
        expected = arrays[f"paper/grad_table/{table}"]
        np.testing.assert_allclose(gradient, expected, atol=1e-6)
    np.testing.assert_allclose(found[-1], arrays["paper/grad_translations"], atol=1e-6)
