"""What trained vectors are handed on as: files, codes, models that find neighbours."""

import json
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from google.protobuf import text_format
from matplotlib.image import imread
from tensorboard.plugins.projector import ProjectorConfig

from recap_tf.core.embeddings.vocabulary import vector_chunks
from twhin_tf.exporting.export_folder import VectorExportSettings, export_vectors
from twhin_tf.exporting.inverted_file import CellIndex, InvertedFile
from twhin_tf.exporting.neighbours import exact_neighbours, recall
from twhin_tf.exporting.plot import project
from twhin_tf.exporting.product_quantization import (
    ProductQuantization,
    quantize,
    read_quantized,
)
from twhin_tf.graph.entities import (
    Entities,
    read_entities,
    vocabulary_path,
    write_entities,
)
from twhin_tf.graph.graph import Graph, NodeType, Relation, with_inverses
from twhin_tf.model.comparators import Cosine
from twhin_tf.settings import Embedder
from twhin_tf.training.building import create_graph_embeddings

USERS, TAGS, DIM = 30, 12, 8


@pytest.fixture
def graph(tmp_path):
    """Users with text ids and communities, tags with whole numbers from 100 on."""
    folder = tmp_path / "graph"
    (folder / "vocabulary").mkdir(parents=True)
    names = [f"user\t{number}" for number in range(USERS)]
    users = Entities(
        ids=pa.array(names, pa.large_string()),
        counts=np.arange(USERS)[::-1],
        communities=np.arange(USERS) % 3,
    )
    tags = Entities(ids=pa.array(np.arange(100, 100 + TAGS)))
    types = {}
    for name, entities in (("user", users), ("tag", tags)):
        path = vocabulary_path(str(folder), name)
        write_entities(path, entities)
        rows = len(entities.ids)
        types[name] = NodeType(name=name, rows=rows, vocabulary=path)
    relations = [
        Relation(name="follow", lhs="user", rhs="user"),
        Relation(name="use", lhs="user", rhs="tag"),
        Relation(name="like", lhs="user", rhs="tag"),
    ]
    return Graph(
        folder=str(folder),
        types=types,
        relations=with_inverses(relations),
        splits={},
    )


def model_of(graph, **settings):
    """Random vectors and translations, so that every relation matters."""
    tf.keras.utils.set_random_seed(0)
    embedder = Embedder(graph=graph.folder, dim=DIM, **settings)
    model = create_graph_embeddings(embedder, graph)
    for weight in [*model.tables.values(), *model.operators.weights]:
        weight.assign(tf.random.normal(weight.shape))
    return model


def best(model, graph, relation, row, k):
    """Rows and scores of the best right-hand sides, by brute force."""
    number = [r.name for r in graph.relations].index(relation)
    ends = graph.relations[number]
    vector = model.tables[ends.lhs].numpy()[row]
    query = model.transform(number, vector[np.newaxis])
    scores = model.score_all(query, model.tables[ends.rhs].numpy())[0].numpy()
    order = np.argsort(-scores)[:k]
    return order, scores[order]


def export(model, graph, folder, **settings):
    lines = []
    settings = VectorExportSettings(**({"plot_method": "pca"} | settings))
    export_vectors(model, graph, str(folder), settings, 7, lines.append)
    return lines


def test_vectors_projector_and_plot(graph, tmp_path):
    model = model_of(graph)
    out = tmp_path / "out"
    lines = export(model, graph, out, top_k=None, projector_nodes=20)
    vectors = model.tables["user"].numpy()
    np.testing.assert_array_equal(np.load(out / "vectors" / "user.npy"), vectors)
    ((entities, stored),) = vector_chunks(str(out / "vectors" / "user.parquet"))
    assert entities[2] == b"user\t2"
    np.testing.assert_array_equal(stored, vectors)
    ((entities, stored),) = vector_chunks(str(out / "vectors" / "tag.parquet"))
    assert entities.tolist() == list(range(100, 112)) and stored.shape == (TAGS, DIM)
    assert lines[0].startswith("vectors/user: 30 of 8; .parquet ")
    assert ".npy 1.09 kB" in lines[0]

    config = ProjectorConfig()
    folder = out / "projector"
    text_format.Parse((folder / "projector_config.pbtxt").read_text(), config)
    assert [one.tensor_name for one in config.embeddings] == ["user", "tag"]
    shown = config.embeddings[0]
    rows = np.loadtxt(folder / shown.tensor_path, delimiter="\t")
    np.testing.assert_allclose(rows, vectors[:20], rtol=1e-5)
    metadata = (folder / shown.metadata_path).read_text().splitlines()
    # A tab within an id would make a column of its own.
    assert metadata[:2] == ["entity\tedges\tcommunity", "user 0\t29\t0"]
    assert len(metadata) == 21

    picture = imread(out / "plot.png")
    assert picture.shape[0] > 500
    # Each community has a colour of its own.
    assert len(np.unique(picture.reshape(-1, picture.shape[2]), axis=0)) > 4
    assert not (out / "retrieval").exists()


def test_an_export_replaces_the_one_before_and_adds_a_version(graph, tmp_path):
    model, out = model_of(graph), tmp_path / "out"
    few = {"projector_nodes": 0, "plot_nodes": 0, "quantization": None, "cells": None}
    export(model, graph, out, **few)
    model.tables["user"].assign(tf.ones([USERS, DIM]))
    lines = export(model, graph, out, **few)
    assert (np.load(out / "vectors" / "user.npy") == 1).all()
    assert lines[-1].startswith("retrieval/exact/2: ")
    assert sorted(p.name for p in out.iterdir()) == ["retrieval", "vectors"]
    assert sorted(p.name for p in (out / "retrieval" / "exact").iterdir()) == ["1", "2"]


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
    found = loaded.signatures["user_to_tag"](
        entities=tf.constant(entities),
        relations=tf.constant(["use", "like", "use", "follow"]),
    )
    assert found["known"].numpy().tolist() == [True, True, False, False]
    for place, (relation, row) in enumerate((("use", 4), ("like", 9))):
        rows, scores = best(model, graph, relation, row, 5)
        assert found["neighbours"][place].numpy().tolist() == (100 + rows).tolist()
        np.testing.assert_allclose(found["scores"][place], scores, rtol=1e-5)
    assert found["neighbours"].numpy()[2:].tolist() == [[-1] * 5] * 2
    assert not found["scores"].numpy()[2:].any()
    # The other way around, whole numbers in and text out.
    found = loaded.signatures["tag_to_user"](
        entities=tf.constant([103], tf.int64), relations=tf.constant(["like/inverse"])
    )
    rows, _ = best(model, graph, "like/inverse", 3, 5)
    assert found["neighbours"][0].numpy().tolist() == [
        f"user\t{row}".encode() for row in rows
    ]
    own = model.comparator.prepare(model.tables["tag"]).numpy()
    found = loaded.signatures["similar_tag"](entities=tf.constant([105], tf.int64))
    expected = np.argsort(-(own @ own[5]))[:5]
    assert (found["neighbours"][0].numpy() - 100).tolist() == expected.tolist()
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
        "    found = model.signatures['similar_tag'](\n"
        "        entities=tf.constant([100], tf.int64))\n"
        "    print(found['neighbours'].shape)\n"
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


def test_cells_find_most_neighbours_and_search_few_vectors():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(40, 16)) * 2
    vectors = centres[rng.integers(40, size=4000)] + rng.normal(size=(4000, 16))
    # Popular nodes are longer.
    vectors *= rng.lognormal(0, 0.4, (4000, 1))
    vectors = vectors.astype(np.float32)
    queries = vectors[:200]
    expected = exact_neighbours(queries, vectors, 10)
    index = CellIndex(vectors, InvertedFile(probes=8), 10)
    scores, rows = index(tf.constant(queries))
    assert recall(rows.numpy(), expected) > 0.9
    assert index.probes * index.largest < 4000 / 3
    np.testing.assert_allclose(
        scores, np.einsum("qd,qkd->qk", queries, vectors[rows.numpy()]), rtol=1e-4
    )
    # Few cells hold fewer vectors than are asked for: more are searched.
    index = CellIndex(vectors[:50], InvertedFile(cells=10, probes=1), 50)
    _, rows = index(tf.constant(queries[:3]))
    assert sorted(rows[0].numpy().tolist()) == list(range(50))


def test_no_cell_is_empty_or_too_large():
    # Most vectors are the same.
    vectors = np.ones((300, 4), np.float32)
    vectors[:20] = np.random.default_rng(0).normal(size=(20, 4))
    cells = InvertedFile(cells=10, largest=2.0).sort(vectors)
    assert sorted(np.concatenate(cells).tolist()) == list(range(300))
    assert min(map(len, cells)) >= 1 and max(map(len, cells)) <= 60


def test_quantized_vectors_are_small_and_near(tmp_path):
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(20_000, 4)) @ rng.normal(size=(4, 50))
    vectors = vectors.astype(np.float32)
    found = quantize(vectors, ProductQuantization(sample=4000, iterations=5))
    assert found.codes.shape == (20_000, 8) and found.codes.dtype == np.uint8
    assert vectors.nbytes / found.codes.nbytes == 25
    assert found.bytes == found.codes.nbytes + 256 * 50 * 4
    path = str(tmp_path / "codes.npz")
    found.write(path)
    again = read_quantized(path)
    error = ((again.vectors() - vectors) ** 2).mean() / vectors.var()
    assert error < 0.1
    # By hand: the third part of vector 5.
    low, high = again.cuts[2:4]
    np.testing.assert_array_equal(
        again.vectors()[5, low:high], again.codebook[again.codes[5, 2], low:high]
    )
    finer = ProductQuantization(bytes_per_vector=25, sample=4000, iterations=5)
    finer = quantize(vectors, finer).vectors()
    assert ((finer - vectors) ** 2).mean() / vectors.var() < error / 3


def test_few_vectors_are_their_own_centroids():
    vectors = np.random.default_rng(0).normal(size=(9, 6)).astype(np.float32)
    found = quantize(vectors, ProductQuantization(bytes_per_vector=3))
    np.testing.assert_array_equal(found.vectors(), vectors)


def test_recall_by_hand():
    assert recall(np.array([[1, 2], [3, 4]]), np.array([[2, 1], [4, 9]])) == 0.75
    vectors = np.eye(4, dtype=np.float32) * [1, 2, 3, 4]
    assert exact_neighbours(np.ones((1, 4)), vectors, 2).tolist() == [[3, 2]]


@pytest.mark.parametrize("method", ["tsne", "pca"])
def test_a_projection_keeps_clusters_apart(method):
    rng = np.random.default_rng(0)
    group = np.arange(60) % 2
    vectors = np.where(group[:, None], 1.0, -1.0) + rng.normal(size=(60, 5)) * 0.1
    points = project(vectors.astype(np.float32), method)
    centres = np.stack([points[group == one].mean(axis=0) for one in (0, 1)])
    distances = np.linalg.norm(points[:, None] - centres, axis=2)
    assert (distances.argmin(axis=1) == group).all()


@pytest.mark.parametrize(
    "make, message",
    [
        (
            lambda: VectorExportSettings(top_k=0),
            r"twhin\.export\.top_k must be at least 1",
        ),
        (lambda: VectorExportSettings(plot_nodes=-1), r"plot_nodes must be at least 0"),
        (lambda: InvertedFile(probes=0), r"InvertedFile\.probes must be at least 1"),
        (lambda: InvertedFile(largest=0.5), r"InvertedFile\.largest must be at least"),
        (
            lambda: ProductQuantization(sample=0),
            r"ProductQuantization\.sample must be at least 1. Received: 0",
        ),
        (
            lambda: quantize(
                np.ones((4, 2), np.float32), ProductQuantization(bytes_per_vector=3)
            ),
            r"bytes_per_vector must be at most 2, the vectors' width. Received: 3",
        ),
    ],
)
def test_bad_settings_are_refused_in_one_line(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_entities_of_another_graph_are_refused(graph, tmp_path):
    path = graph.types["tag"].vocabulary
    write_entities(path, read_entities(graph, "user"))
    with pytest.raises(ValueError, match="does not belong to"):
        export(model_of(graph), graph, tmp_path)
