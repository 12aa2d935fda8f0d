"""The vectors on a page: a projection to two dimensions, coloured by community."""

import io
from collections.abc import Mapping
from typing import Literal

import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

Method = Literal["tsne", "pca"]
_COLOURS = 10  # of matplotlib's default cycle
_MARKERS = "o^sDvPX*"


def project(vectors: np.ndarray, method: Method, seed: int = 0) -> np.ndarray:
    """Projects the directions of (n, dim) vectors to two dimensions, (n, 2).

    Lengths mostly say how frequent a node is.

    Args:
        vectors: (n, dim), n at least 4.
        method: "tsne" (van der Maaten and Hinton 2008) keeps neighbours together,
            "pca" large distances apart.
        seed: of t-SNE.
    """
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    directions = vectors / np.maximum(lengths, 1e-12)
    if directions.shape[1] == 1:
        directions = np.repeat(directions, 2, axis=1)
    if method == "pca":
        return PCA(2, random_state=seed).fit_transform(directions)
    perplexity = min(30.0, (len(vectors) - 1) / 3)
    tsne = TSNE(init="pca", perplexity=perplexity, random_state=seed)
    return tsne.fit_transform(directions)


def write_plot(
    path: str,
    vectors: Mapping[str, np.ndarray],
    communities: Mapping[str, np.ndarray | None],
    method: Method,
) -> None:
    """Draws the nodes of all types as a PNG file.

    One colour for each of the ten largest communities where communities are known,
    else for each type; a marker for each type.

    Args:
        path: of the PNG file.
        vectors: type -> (n, dim), of one width; at least 4 in all.
        communities: type -> (n,) the community of each; None where unknown.
        method: see `project`.
    """
    points = project(np.concatenate(list(vectors.values())), method)
    known = [numbers for numbers in communities.values() if numbers is not None]
    largest = _largest(np.concatenate(known)) if known else []
    figure = Figure(figsize=(9, 9), layout="constrained")
    axes = figure.add_subplot()
    start = 0
    for number, (name, of_type) in enumerate(vectors.items()):
        x, y = points[start : start + len(of_type)].T
        start += len(of_type)
        style = {"marker": _MARKERS[number % len(_MARKERS)], "s": 9, "linewidths": 0}
        if not known:
            axes.scatter(x, y, label=name, color=f"C{number % _COLOURS}", **style)
            continue
        group = communities[name]
        group = np.full(len(of_type), -1) if group is None else group
        place = np.array([largest.index(g) if g in largest else -1 for g in group])
        rest = place < 0
        axes.scatter(x[rest], y[rest], color="lightgrey", **style)
        colours = [f"C{rank}" for rank in place[~rest]]
        axes.scatter(x[~rest], y[~rest], c=colours or None, **style)
        axes.scatter([], [], label=name, color="black", **style)
    for number, community in enumerate(largest):
        axes.scatter([], [], label=f"community {community}", color=f"C{number}", s=9)
    axes.legend(markerscale=2, fontsize="small")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(f"{len(points):,} nodes, {method.upper().replace('TSNE', 't-SNE')}")
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=120, format="png")
    with tf.io.gfile.GFile(path, "wb") as file:
        file.write(buffer.getvalue())


def _largest(communities: np.ndarray) -> list[int]:
    values, counts = np.unique(communities, return_counts=True)
    return values[np.argsort(-counts, kind="stable")][:_COLOURS].tolist()
