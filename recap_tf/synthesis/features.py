"""Decides from a schema how each feature's values are to be drawn."""

import re
import zlib
from collections.abc import Container, Mapping

import numpy as np

from recap_tf.data.schema import VARIABLE, Feature, Schema
from recap_tf.synthesis.columns import (
    Categories,
    Column,
    Embedding,
    Keys,
    Lists,
    Tokens,
)
from recap_tf.synthesis.latent_columns import Aggregates, Bits


def make_columns(
    schema: Schema,
    names: Mapping[str, str],
    labels: Container[str],
    used: Mapping[str, int],
    vocabulary_size: int,
    seed: int,
) -> dict[str, Column]:
    """Decides how to draw every feature of `schema` except the labels.

    A feature is the user's if "user" is a word of its name; a float feature is an
    embedding if "embedding" is, or "embeddings"; an int64 feature holds flags if it is
    called "binary", and large keys if its last word is "id".

    Args:
        schema: all features of the records.
        names: a feature's name in the records -> its name inside the model.
        labels: the features that are labels.
        used: name inside the model -> how many of its first columns a model sees; all
            where not listed. The labels depend on no other column.
        vocabulary_size: ids of the remaining int64 features are below it.
        seed: of the hidden structure.
    """
    return {
        name: _make_column(
            feature,
            names.get(name, name),
            used,
            vocabulary_size,
            np.random.default_rng([seed, zlib.crc32(name.encode())]),
        )
        for name, feature in schema.items()
        if name not in labels
    }


def _make_column(
    feature: Feature,
    inside: str,
    used: Mapping[str, int],
    vocabulary_size: int,
    rng: np.random.Generator,
) -> Column:
    words = re.split(r"[^a-z0-9]+", f"{feature.name}.{inside}".lower())
    user = "user" in words
    width = feature.length
    if width == VARIABLE:
        return Lists(rng, feature.dtype, user, vocabulary_size)
    if feature.dtype == "bytes_list":
        return Tokens(rng, width, user, vocabulary_size)
    if feature.dtype == "float_list":
        if "embedding" in words or "embeddings" in words:
            return Embedding(rng, width, user)
        return Aggregates(rng, width, used.get(inside, width), user)
    if inside == "binary":
        return Bits(rng, width, used.get(inside, width), user)
    if words[-1] == "id":
        return Keys(rng, width, user)
    return Categories(rng, width, user, vocabulary_size)
