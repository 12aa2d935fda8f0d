"""Retrieval models give the best of a relation, with nothing but TensorFlow."""

import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from exports import export, make_graph, model_of

from twhin_tf.exporting.inverted_file import InvertedFile
from twhin_tf.model.comparators import Cosine


@pytest.fixture
def graph(tmp_path):
    return make_graph(tmp_path / "graph")


def best(model, graph, relation, row, k):
    """Finds rows and scores of the best right-hand sides, by brute force."""
    number = [r.name for r in graph.relations].index(relation)
    ends = graph.relations[number]
    vector = model.tables[ends.lhs].numpy()[row]
    query = model.transform(number, vector[np.newaxis])
    scores = model.score_all(query, model.tables[ends.rhs].numpy())[0].numpy()
    order = np.argsort(-scores)[:k]
    return order, scores[order]


@pytest.mark.parametrize("kind", ["exact", "approximate"])
@pytest.mark.parametrize("comparator", [None, Cosine(3.0)], ids=["dot", "cosine"])
def test_retrieval_models_find_the_best_of_a_relation(
    graph, tmp_path, kind, comparator
):
    settings = {} if comparator is None else {"comparator": comparator}
    model = model_of(graph, **settings)
    # All cells are searched: exact too.
    cells = InvertedFile(cells=4, probes=4) if kind == "approximate" else None
    few = {"projector_nodes": 0, "plot_nodes": 0, "quantization": None}
    export(model, graph, tmp_path, top_k=5, cells=cells, **few)
    loaded = tf.saved_model.load(str(tmp_path / "retrieval" / kind / "1"))
    names = set(loaded.signatures) - {"serving_default"}
    assert names == {
        "user_to_user",
        "user_to_tag",
        "tag_to_user",
        "similar_user",
        "similar_tag",
    }
    entities = ["user\t4", "user\t9", "nobody", "user\t9"]
    answer = loaded.signatures["user_to_tag"](
        entities=tf.constant(entities),
        relations=tf.constant(["use", "like", "use", "follow"]),
    )
    assert answer["known"].numpy().tolist() == [True, True, False, False]
    for place, (relation, row) in enumerate((("use", 4), ("like", 9))):
        rows, scores = best(model, graph, relation, row, 5)
        assert answer["neighbours"][place].numpy().tolist() == (100 + rows).tolist()
        np.testing.assert_allclose(answer["scores"][place], scores, rtol=1e-5)
    assert answer["neighbours"].numpy()[2:].tolist() == [[-1] * 5] * 2
    assert not answer["scores"].numpy()[2:].any()
    # The other way around, whole numbers in and text out.
    answer = loaded.signatures["tag_to_user"](
        entities=tf.constant([103], tf.int64), relations=tf.constant(["like/inverse"])
    )
    rows, _ = best(model, graph, "like/inverse", 3, 5)
    assert answer["neighbours"][0].numpy().tolist() == [
        f"user\t{row}".encode() for row in rows
    ]
    tags = model.comparator.prepare(model.tables["tag"]).numpy()
    answer = loaded.signatures["similar_tag"](entities=tf.constant([105], tf.int64))
    expected = np.argsort(-(tags @ tags[5]))[:5]
    assert (answer["neighbours"][0].numpy() - 100).tolist() == expected.tolist()
    extra = tmp_path / "retrieval" / kind / "1" / "assets.extra" / "retrieval.json"
    described = json.loads(extra.read_text())
    assert described["step"] == 7 and "user_to_tag" in described["signatures"]
    if kind == "approximate":
        assert described["recall@10"] == {"user": 1.0, "tag": 1.0}


def test_a_retrieval_model_needs_nothing_but_tensorflow(graph, tmp_path):
    few = {"projector_nodes": 0, "plot_nodes": 0, "quantization": None}
    export(model_of(graph), graph, tmp_path, top_k=100, **few)
    program = (
        "import sys, tensorflow as tf\n"
        "for kind in ('exact', 'approximate'):\n"
        f"    path = '{tmp_path}/retrieval/' + kind + '/1'\n"
        "    model = tf.saved_model.load(path)\n"
        "    answer = model.signatures['similar_tag'](\n"
        "        entities=tf.constant([100], tf.int64))\n"
        "    print(answer['neighbours'].shape)\n"
        "assert not any(name.startswith(('tensorflow_rec', 'recap', 'twhin'))\n"
        "               for name in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    # No more neighbours than there are nodes.
    assert done.stdout.split("\n")[:2] == ["(1, 12)"] * 2, done.stderr
