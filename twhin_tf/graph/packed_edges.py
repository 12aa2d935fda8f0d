"""Parquet edges -> binary files that TensorFlow reads without Python.

    CACHE/KEY/blocks-00000.bin ...    blocks of 4096 edges, each (lhs, rel, rhs) int32
    CACHE/KEY/packed.json             how many edges there are

KEY stands for all that the content depends on: the parquet files' names, sizes and
times, the graph, limit and offset. Edges are in random order; only the very last block
may be filled up, with -1.
"""

import contextlib
import hashlib
import json
import posixpath
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf
import tqdm

from recap_tf.core import files
from recap_tf.core.command import UserError, one_line
from recap_tf.core.row_files import open_table
from twhin_tf.graph.edge_buckets import EdgeBuckets, bucket_count
from twhin_tf.graph.edge_files import read_split
from twhin_tf.graph.edge_hashes import mix
from twhin_tf.graph.graph import Graph

BLOCK = 4096
BLOCK_BYTES = BLOCK * 3 * 4
# As many files as can be shared out to workers, none too large to be moved about.
_FILES = 16
_MOST_BLOCKS_PER_FILE = 2048
_MANIFEST = "packed.json"
_VERSION = 1


def pack_edges(
    graph: Graph, split: str, limit: int | None, offset: int, cache: str | None
) -> tuple[list[str], int]:
    """Returns a split's packed files and their number of edges; packs if needed.

    Args:
        graph: the graph they are of.
        split: one of `graph.splits`.
        limit, offset: see `read_split`.
        cache: the folder they are in; None for ".packed" beside the parquet files.

    Raises:
        UserError: the edges are unfit, or the folder cannot be written to.
    """
    paths = graph.edge_files(split)
    cache = cache or posixpath.join(graph.folder, split, ".packed")
    folder = posixpath.join(cache, _key(graph, paths, limit, offset))
    manifest = posixpath.join(folder, _MANIFEST)
    if not tf.io.gfile.exists(manifest):
        files.check_writable("Edges.cache_folder", cache)
        # Another process may have finished the same meanwhile.
        try:
            with files.new_folder(folder) as aside:
                _write(graph, split, limit, offset, aside)
        except (FileExistsError, tf.errors.OpError) as error:
            if not tf.io.gfile.exists(manifest):
                raise UserError(
                    f"{folder} cannot be written to: {one_line(str(error))}"
                ) from error
    with tf.io.gfile.GFile(manifest) as file:
        edges = json.load(file)["edges"]
    return sorted(tf.io.gfile.glob(posixpath.join(folder, "*.bin"))), edges


def _write(graph, split, limit, offset, folder) -> None:
    total = sum(open_table(path).rows for path in graph.edge_files(split))
    total = max(min(total - offset, total if limit is None else limit), 0)
    buckets = EdgeBuckets(
        posixpath.join(folder, "buckets"), bucket_count(total), seed=0
    )
    done = 0
    with (
        buckets,
        tqdm.tqdm(
            total=total, unit=" edges", unit_scale=True, desc=f"packing {split}"
        ) as progress,
    ):
        for part in read_split(graph, split, limit, offset):
            # By position: equal edges do not crowd into one bucket.
            buckets.add(part, mix(np.arange(done, done + len(part))))
            done += len(part)
            progress.update(len(part))
        if not done:
            raise UserError(
                f"Edges.offset = {offset} and limit = {limit} leave none of the edges "
                f"of {posixpath.join(graph.folder, split)}."
            )
        blocks = -(-done // BLOCK)
        per_file = min(-(-blocks // _FILES), _MOST_BLOCKS_PER_FILE)
        _write_blocks((edges for edges, _ in buckets.read()), per_file, folder)
    files.write_text(posixpath.join(folder, _MANIFEST), json.dumps({"edges": done}))


def _write_blocks(
    parts: Iterator[np.ndarray], blocks_per_file: int, folder: str
) -> None:
    """Writes edges end to end, in files of `blocks_per_file` blocks."""
    most = blocks_per_file * BLOCK
    rest = np.zeros((0, 3), np.int32)
    index = 0
    with contextlib.suppress(StopIteration):
        while True:
            while len(rest) < most:
                part = next(parts, None)
                if part is None:
                    break
                rest = np.concatenate([rest, part])
            if not len(rest):
                return
            full, rest = rest[:most], rest[most:]
            padding = -len(full) % BLOCK
            full = np.pad(full, ((0, padding), (0, 0)), constant_values=-1)
            path = posixpath.join(folder, f"blocks-{index:05d}.bin")
            with tf.io.gfile.GFile(path, "wb") as file:
                file.write(np.ascontiguousarray(full, "<i4").tobytes())
            index += 1


def _key(graph: Graph, paths: Sequence[str], limit: int | None, offset: int) -> str:
    sources = []
    for path in paths:
        stat = tf.io.gfile.stat(path)
        sources.append((posixpath.basename(path), stat.length, stat.mtime_nsec))
    text = json.dumps([_VERSION, BLOCK, graph.fingerprint, sources, limit, offset])
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
