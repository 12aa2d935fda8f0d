"""The score of edges, the loss of a batch and its gradients."""

import numpy as np
import pytest
import tensorflow as tf

from recap_tf.core.optimizers.lazy_adam import LazyAdam
from recap_tf.core.optimizers.sparse_sgd import SparseSGD
from twhin_tf.graph.graph import Graph, NodeType, Relation
from twhin_tf.model.comparators import Cosine, Dot
from twhin_tf.model.global_negatives import GlobalNegatives
from twhin_tf.model.graph_embeddings import EdgeObjective, GraphEmbeddings, Penalty
from twhin_tf.model.grouped_product import grouped_product
from twhin_tf.model.in_batch_negatives import InBatchNegatives
from twhin_tf.model.losses import LogisticLoss, SoftmaxLoss
from twhin_tf.model.node_tables import NodeTable, NodeTables, rows_of_type
from twhin_tf.model.operators import (
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
    samplers = [one.prepare(model.node_tables, {}) for one in negatives]
    settings = {"mask_known": "nothing"} | settings
    return EdgeObjective(model, samplers, loss or LogisticLoss(), **settings)


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
    negatives = InBatchNegatives(int(arrays["in_batch_negatives"]))
    objective = make_objective(model, [negatives])
    (sampler,) = objective.samplers
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


SMALL = make_graph(
    {"user": 6, "post": 5}, [("like", "user", "post"), ("follow", "user", "user")]
)
EDGES = tf.constant([[0, 0, 1], [2, 0, 3], [4, 1, 5], [1, 1, 2]], tf.int32)


def test_tables_of_two_types_share_a_side():
    model = make_model(SMALL, 2)
    for table in model.tables.values():
        table.assign(tf.random.normal(table.shape))
    batch = model.read(EDGES)
    user, post = (model.tables[name].numpy() for name in ("user", "post"))
    np.testing.assert_array_equal(batch.vectors["lhs"], user[[0, 2, 4, 1]])
    expected = [post[1], post[3], user[5], user[2]]
    np.testing.assert_array_equal(batch.vectors["rhs"], expected)


def test_gradients_reach_both_tables_and_the_translations_and_only_rows_in_use():
    model = make_model(SMALL, 3)
    objective = make_objective(model, [InBatchNegatives(2)])
    weights = [*model.tables.values(), *model.operators.trainable_weights]
    with tf.GradientTape() as tape:
        loss = objective(EDGES, tf.constant([1, 2], tf.int64))[0]
    gradients = [tf.convert_to_tensor(g) for g in tape.gradient(loss, weights)]
    moved = [set(np.flatnonzero(np.any(g.numpy() != 0, axis=1))) for g in gradients]
    assert moved == [{0, 1, 2, 4, 5}, {1, 3}, {0, 1}]


def test_a_type_that_no_edge_of_the_batch_has_is_asked_for_a_row_it_has():
    nobody = [tf.constant([False, False])]
    np.testing.assert_array_equal(
        rows_of_type([tf.constant([7, 8])], nobody, 2), [1, 1]
    )
    one = [tf.constant([False, True])]
    np.testing.assert_array_equal(rows_of_type([tf.constant([7, 0])], one, 2), [0, 0])


def test_the_table_of_a_type_is_what_its_own_settings_say():
    graph = make_graph({"user": 3, "item": 2}, [("buy", "user", "item")])
    own = NodeTable(storage="float16", initializer="ones")
    tables = NodeTables(graph, 4, NodeTable(initializer="zeros"), {"item": own})
    user, item = tables.variables_of["user"], tables.variables_of["item"]
    assert (user.dtype, item.dtype) == (tf.float32, tf.float16)
    np.testing.assert_array_equal(user, np.zeros((3, 4)))
    np.testing.assert_array_equal(item, np.ones((2, 4)))


def test_lazy_optimizers_leave_rows_alone_that_the_batch_does_not_hold():
    model = make_model(SMALL, 2, optimizer=LazyAdam)
    optimizer, (user,) = model.parameter_groups()["table/user"]
    optimizer.apply_gradients([(tf.ones_like(user), user)])
    before = user.numpy()
    # On the right only posts and user 5; rows of posts must not become users'.
    edges = tf.constant([[2, 0, 0], [3, 1, 5]], tf.int32)
    objective = make_objective(model, [InBatchNegatives(1)])
    with tf.GradientTape() as tape:
        loss = objective(edges, tf.constant([1, 2], tf.int64))[0]
    optimizer.apply_gradients([(tape.gradient(loss, user), user)])
    same = np.all(user.numpy() == before, axis=1)
    assert same[[0, 1, 4]].all() and not same[[2, 3, 5]].any()


@pytest.mark.parametrize(
    "operator, transformed",
    [
        (Identity, [1.0, 2.0, 3.0, 4.0]),
        (Translation, [1.5, 2.0, 2.0, 6.0]),
        (Diagonal, [0.5, 0.0, -3.0, 8.0]),
        # (1 + 3i)(0.5 - 1i) and (2 + 4i)(0 + 2i)
        (ComplexDiagonal, [3.5, -8.0, 0.5, 4.0]),
    ],
)
def test_operators(operator, transformed):
    made = operator(relations=2)
    made.build([(None, 4), (None,)])
    for weight in made.trainable_weights:
        weight.assign([[9.0] * 4, [0.5, 0.0, -1.0, 2.0]])
    vectors = tf.constant([[1.0, 2.0, 3.0, 4.0]])
    np.testing.assert_allclose(made([vectors, tf.constant([1])])[0], transformed)


def test_linear_operator():
    made = Linear(relations=2)
    made.build([(None, 2), (None,)])
    vectors = tf.constant([[1.0, 2.0]])
    np.testing.assert_allclose(made([vectors, tf.constant([1])]), vectors)
    made.matrices[1].assign([[0.0, 1.0], [3.0, 0.0]])
    np.testing.assert_allclose(made([vectors, tf.constant([1])])[0], [2.0, 3.0])


@pytest.mark.parametrize(
    "operator", [Identity, Translation, Diagonal, ComplexDiagonal, Linear]
)
def test_adjoint_gives_the_same_scores(operator):
    made = operator(relations=3)
    made.build([(None, 4), (None,)])
    for weight in made.trainable_weights:
        weight.assign(tf.random.normal(weight.shape))
    lhs, rhs = tf.random.normal([5, 4]), tf.random.normal([5, 4])
    relation = tf.constant([0, 2, 1, 0, 2])
    turned, offset = made.adjoint(rhs, relation)
    found = tf.reduce_sum(lhs * turned, axis=1) + (0.0 if offset is None else offset)
    expected = tf.reduce_sum(made([lhs, relation]) * rhs, axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_relations_with_operators_of_their_own():
    names = ["like", "follow"]
    operators = RelationOperators(names, Translation, {"follow": Diagonal})
    operators.build([(None, 2), (None,)])
    translation, diagonal = operators.kinds
    translation.translations.assign([[1.0, 2.0], [9.0, 9.0]])
    diagonal.diagonals.assign([[9.0, 9.0], [3.0, 4.0]])
    found = operators([tf.ones([2, 2]), tf.constant([0, 1])])
    np.testing.assert_allclose(found, [[2.0, 3.0], [3.0, 4.0]])
    with pytest.raises(ValueError, match="operators names 'block', which is no rel"):
        RelationOperators(names, Translation, {"block": Diagonal})


def test_cosine_is_scaled_and_between_directions():
    cosine = Cosine(scale=4.0)
    first, second = tf.constant([[3.0, 4.0]]), tf.constant([[30.0, 0.0]])
    np.testing.assert_allclose(cosine.pairs(first, second), [4 * 0.6], rtol=1e-6)
    with pytest.raises(ValueError, match=r"Cosine.scale must be above 0. Rec"):
        Cosine(scale=0.0)


def test_score_all_and_transform_agree_with_score():
    model = make_model(SMALL, 3)
    for weight in model.operators.trainable_weights:
        weight.assign(tf.random.normal(weight.shape))
    lhs, posts = model.tables["user"], tf.convert_to_tensor(model.tables["post"])
    queries = model.transform(1, tf.gather(lhs, [0, 1]))
    every = model.score_all(queries, posts)
    one = model.score(queries, tf.gather(posts, [4, 2]))
    np.testing.assert_allclose([every[0, 4], every[1, 2]], one, rtol=1e-5)


@pytest.mark.parametrize("groups, rows", [(1, 5), (3, 3), (3, 5), (20, 60)])
def test_grouped_product_and_its_gradients(groups, rows):
    vectors = tf.Variable(tf.random.normal([7, 4]))
    matrices = tf.Variable(tf.random.normal([groups, rows, 4]))
    group = tf.constant(np.arange(7) * 5 % groups)
    factors = tf.random.normal([7, rows])
    with tf.GradientTape(persistent=True) as tape:
        found = grouped_product(vectors, tf.convert_to_tensor(matrices), group)
        expected = tf.linalg.matvec(tf.gather(matrices, group), vectors)
        totals = [tf.reduce_sum(factors * one) for one in (found, expected)]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    for weight in (vectors, matrices):
        one, other = (
            tf.convert_to_tensor(tape.gradient(total, weight)) for total in totals
        )
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_penalty_counts_ends_and_relation():
    model = make_model(SMALL, 2)
    model.tables["user"].assign(tf.fill([6, 2], 2.0))
    model.tables["post"].assign(tf.fill([5, 2], 1.0))
    model.operators.trainable_weights[0].assign([[0.0, 3.0], [0.0, 0.0]])
    edges = EDGES[:1]
    sampler = [GlobalNegatives(count=1, sides="rhs")]
    seed = tf.constant([1, 2], tf.int64)
    plain = make_objective(model, sampler, SoftmaxLoss())(edges, seed)[0]
    penalty = Penalty(factor=0.5, power=3)
    sized = make_objective(model, sampler, SoftmaxLoss(), penalty=penalty)
    expected = 0.5 * (2 * 8.0 + 2 * 1.0 + 27.0)
    np.testing.assert_allclose(sized(edges, seed)[0] - plain, expected, rtol=1e-5)


def test_relation_weights_scale_the_loss_of_their_edges():
    model = make_model(SMALL, 2)
    sampler, seed = [InBatchNegatives(1)], tf.constant([1, 2], tf.int64)
    weights = np.array([0.0, 1.0], np.float32)
    objective = make_objective(model, sampler, relation_weights=weights)
    with tf.GradientTape() as tape:
        loss = objective(EDGES, seed)[0]
    translations = model.operators.trainable_weights[0]
    gradient = tf.convert_to_tensor(tape.gradient(loss, translations)).numpy()
    assert not gradient[0].any() and gradient[1].any()


@pytest.mark.parametrize("operator", [Translation, ComplexDiagonal])
def test_loss_and_gradients_compile_with_xla(operator):
    model = make_model(SMALL, 4, operator)
    samplers = [InBatchNegatives(3), GlobalNegatives(count=4)]
    objective = make_objective(model, samplers, SoftmaxLoss(), mask_known="batch")
    weights = [*model.tables.values(), *model.operators.trainable_weights]

    def gradients():
        with tf.GradientTape() as tape:
            loss = objective(EDGES, tf.constant([1, 2], tf.int64))[0]
        found = tape.gradient(loss, weights)
        return loss, [tf.convert_to_tensor(one) for one in found]

    plain = gradients()
    compiled = tf.function(gradients, jit_compile=True)()
    np.testing.assert_allclose(plain[0], compiled[0], rtol=1e-5)
    for one, other in zip(plain[1], compiled[1], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
