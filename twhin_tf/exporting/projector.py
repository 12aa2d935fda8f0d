"""Files for TensorBoard's projector: `tensorboard --logdir DIR`."""

import posixpath
from collections.abc import Mapping

import numpy as np
from google.protobuf import text_format
from tensorboard.plugins.projector import ProjectorConfig

from recap_tf.core import files
from twhin_tf.graph.entities import Entities, file_stem

_ESCAPES = str.maketrans({"\t": " ", "\n": " ", "\r": " "})


def write_projector(
    folder: str, vectors: Mapping[str, np.ndarray], entities: Mapping[str, Entities]
) -> list[str]:
    """Writes projector_config.pbtxt, and TYPE_vectors.tsv, TYPE_metadata.tsv per type.

    Args:
        folder: for `tensorboard --logdir`.
        vectors: type -> the vectors of its first rows, (n, dim).
        entities: type -> all its nodes.

    Returns:
        The paths of the files.
    """
    config, paths = ProjectorConfig(), []
    for name, of_type in vectors.items():
        shown = config.embeddings.add()
        shown.tensor_name = name
        shown.tensor_path = f"{file_stem(name)}_vectors.tsv"
        shown.metadata_path = f"{file_stem(name)}_metadata.tsv"
        rows = of_type.tolist()
        lines = ("\t".join(f"{number:.6g}" for number in row) for row in rows)
        texts = {shown.tensor_path: "\n".join(lines) + "\n"}
        texts[shown.metadata_path] = _metadata(entities[name], len(of_type))
        for path, text in texts.items():
            paths.append(posixpath.join(folder, path))
            files.write_text(paths[-1], text)
    paths.append(posixpath.join(folder, "projector_config.pbtxt"))
    files.write_text(paths[-1], text_format.MessageToString(config))
    return paths


def _metadata(entities: Entities, count: int) -> str:
    """Writes entity, edges and community; a single column has no header line."""
    ids = [str(name).translate(_ESCAPES) for name in entities.ids[:count].to_pylist()]
    columns = {"entity": ids}
    if entities.counts is not None:
        columns["edges"] = entities.counts[:count].tolist()
    if entities.communities is not None:
        columns["community"] = entities.communities[:count].tolist()
    lines = ["\t".join(map(str, row)) for row in zip(*columns.values(), strict=True)]
    if len(columns) > 1:
        lines.insert(0, "\t".join(columns))
    return "\n".join(lines) + "\n"
