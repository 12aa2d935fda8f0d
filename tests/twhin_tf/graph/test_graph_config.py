"""The config that is written with a graph trains on it."""

import pytest
from conversions import EDGES, convert

from recap_tf.core.config import gin_config
from twhin_tf import settings


def test_the_config_trains_on_the_graph(tmp_path):
    folder = convert(tmp_path, EDGES)
    gin_config.load(str(folder / "graph.gin"), roots=settings.ROOTS)
    assert settings.Embedder().graph == str(folder)
    assert settings.TrainSettings().save_dir == str(folder / "run")


@pytest.mark.parametrize(
    "flag, sides", [("--inverse", "rhs"), ("--no-inverse", "both")]
)
def test_the_config_has_negatives_for_both_ends(tmp_path, flag, sides):
    folder = convert(tmp_path, EDGES, flag)
    gin_config.load(str(folder / "graph.gin"), roots=settings.ROOTS)
    assert [sampler.sides for sampler in settings.Embedder().negatives] == [sides]
