"""Raw and filtered ranks are those of a loop over candidates, ties at their mean."""

import numpy as np
import pytest
from ranked_graphs import (
    BASE,
    ROWS,
    Tables,
    brute_force,
    graph_of,
    random_edges,
    random_tables,
)

from twhin_tf.evaluation.filtered_ranks import Blocks, rank_edges
from twhin_tf.evaluation.known_answers import KnownAnswers, read_known_answers
from twhin_tf.graph.graph import with_inverses


@pytest.mark.parametrize(
    "blocks",
    [Blocks(), Blocks(queries=7, edges=3, candidates=2)],
    ids=["at once", "in blocks"],
)
@pytest.mark.parametrize("inverse", [True, False])
def test_ranks_are_those_of_brute_force(blocks, inverse):
    rng = np.random.default_rng(0)
    graph = graph_of(relations=with_inverses(BASE))
    model = random_tables(rng, graph.relations)
    edges, others = random_edges(rng, 30), random_edges(rng, 40)
    all_edges = np.concatenate([edges, others, others])
    known = read_known_answers(edges, [all_edges[:50], all_edges[50:]])
    ranks = rank_edges(model, graph, edges, known, inverse=inverse, blocks=blocks)
    for side in ("tail", "head"):
        raw, filtered = brute_force(model, graph, edges, all_edges, side, inverse)
        np.testing.assert_array_equal(ranks[side].raw, raw)
        np.testing.assert_array_equal(ranks[side].filtered, filtered)
    assert (raw != filtered).any() and (raw % 1 != 0).any()


def test_equal_scores_share_the_mean_of_their_ranks():
    graph = graph_of(relations=BASE)
    model = random_tables(np.random.default_rng(0), BASE)
    model.tables = {name: np.ones((n, 4)) for name, n in ROWS.items()}
    edges = np.array([[0, 0, 1], [0, 0, 2], [3, 1, 4]])
    ranks = rank_edges(model, graph, edges, read_known_answers(edges, [edges]))
    # 9 users and 5 tags: the middle of all. Filtered, one user less.
    np.testing.assert_array_equal(ranks["tail"].raw, [5, 5, 3])
    np.testing.assert_array_equal(ranks["tail"].filtered, [4.5, 4.5, 3])
    np.testing.assert_array_equal(ranks["tail"].candidates, [8, 8, 5])


@pytest.mark.parametrize("size", [1, 3, 40, 64])
def test_copies_of_a_vector_tie_wherever_they_are(size):
    # Products in blocks of any size have to give the same bits.
    rng = np.random.default_rng(1)
    vectors = np.tile(rng.normal(size=(1, 100)), (size, 1))
    graph = graph_of(relations=[BASE[0]], rows={"user": size})
    model = Tables({"user": vectors}, rng.normal(size=(1, 100)))
    edges = np.array([[0, 0, row] for row in range(size)])
    known = {side: KnownAnswers(edges, side).finish() for side in ("tail", "head")}
    # Among them blocks of a single edge, and of a single candidate.
    for blocks in (Blocks(), Blocks(queries=9, edges=4, candidates=21)):
        ranks = rank_edges(model, graph, edges, known, blocks=blocks)
        np.testing.assert_array_equal(ranks["tail"].raw, (size + 1) / 2)


def test_blocks_hold_something():
    with pytest.raises(ValueError, match=r"Blocks\.edges must be at least 1"):
        Blocks(edges=0)
