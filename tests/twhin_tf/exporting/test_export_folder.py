"""An export holds what the settings ask for, in place of the one before."""

import numpy as np
import pytest
import tensorflow as tf
from exports import DIM, TAGS, USERS, export, make_graph, model_of
from google.protobuf import text_format
from matplotlib.image import imread
from tensorboard.plugins.projector import ProjectorConfig

from recap_tf.core.embeddings.vocabulary import vector_chunks
from twhin_tf.exporting.export_folder import VectorExportSettings
from twhin_tf.exporting.inverted_file import InvertedFile
from twhin_tf.exporting.product_quantization import (
    ProductQuantization,
    quantize,
)
from twhin_tf.graph.entities import (
    read_entities,
    write_entities,
)


@pytest.fixture
def graph(tmp_path):
    return make_graph(tmp_path / "graph")


def test_an_export_holds_vectors_projector_files_and_a_plot(graph, tmp_path):
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
    assert [shown.tensor_name for shown in config.embeddings] == ["user", "tag"]
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
