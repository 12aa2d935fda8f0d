"""How the values of one feature are drawn, request by request."""

import dataclasses
from collections.abc import Sequence

import numpy as np

ColumnValues = np.ndarray | Sequence[np.ndarray | None]
"""One row per example: (n, width), or lists of any length, None where missing."""


@dataclasses.dataclass(frozen=True)
class Requests:
    """Requests in a row; row r of what belongs to users has sizes[r] candidates."""

    sizes: np.ndarray

    @property
    def users(self) -> int:
        """How many requests, each of one user."""
        return len(self.sizes)

    @property
    def examples(self) -> int:
        """How many candidates in all requests."""
        return int(self.sizes.sum())

    def rows(self, user: bool) -> int:
        """How many rows to draw of a feature of users or of candidates."""
        return self.users if user else self.examples

    def spread(self, rows: np.ndarray, user: bool) -> np.ndarray:
        """One row per example: a user's is repeated, a candidate's stays as it is."""
        return np.repeat(rows, self.sizes, axis=0) if user else rows


class Column:
    """A feature of a record; draws its values, about `width` of them per example.

    `directions` (used columns, signals) says which combinations of `view(values)` the
    hidden model may read; `from_user` (signals,) which of them belong to the user.
    `standardized` says that a model sees every column of the view scaled to unit
    variance.
    """

    width: int
    standardized = False
    directions = np.zeros((0, 0), np.float32)
    from_user = np.zeros(0, bool)

    def draw(
        self, rng: np.random.Generator, requests: Requests
    ) -> tuple[ColumnValues, np.ndarray | None]:
        """The values, one row per example, and where they are present (None: all)."""
        raise NotImplementedError("A column defines draw().")

    def view(self, values: np.ndarray) -> np.ndarray:
        """(n, width) stored values -> (n, used columns), as a model would see them."""
        raise NotImplementedError("A column with directions defines view().")


class Embedding(Column):
    """A vector near a plane; missing for a few per cent.

    Its signal is the coordinate along one axis of the plane, after scaling the row
    to length sqrt(width), as a layer norm does.
    """

    def __init__(self, rng, width: int, user: bool):
        self.width, self.user = width, user
        rank = max(1, min(2, width - 1))
        plane = rng.normal(size=(width, rank))
        if width > 1:
            plane -= plane.mean(0)
        plane = np.linalg.qr(plane)[0].T
        self.plane = (plane * np.sqrt(0.8 * width / rank)).astype(np.float32)
        self.missing = rng.uniform(0.02, 0.05)
        self.directions = plane[:1].T.astype(np.float32)
        self.from_user = np.array([user])

    def draw(self, rng, requests):
        rows = requests.rows(self.user)
        values = rng.standard_normal((rows, self.width), np.float32)
        values *= np.sqrt(0.2)
        factors = rng.standard_normal((rows, len(self.plane)), np.float32)
        for factor, axis in zip(factors.T, self.plane, strict=True):
            values += factor[:, None] * axis
        values *= 0.07
        bits = values.view(np.uint32)
        bits &= np.uint32(0xFFFF0000)
        present = rng.random(rows) >= self.missing
        values *= present[:, None]
        return (
            requests.spread(values, self.user),
            requests.spread(present, self.user),
        )

    def view(self, values):
        length = np.sqrt(np.mean(np.square(values), axis=1, keepdims=True))
        return values / np.where(length > 0, length, np.float32(1.0))


class Categories(Column):
    """Ids below a size that differs by column, small ids most frequent."""

    def __init__(self, rng, width: int, user: bool, vocabulary_size: int):
        sizes = np.exp(rng.uniform(np.log(2), np.log(vocabulary_size + 1), width))
        self.width = width
        self.sizes = np.minimum(sizes, vocabulary_size).astype(np.float32)
        half = width if user else width * 2 // 5
        self.parts = [(slice(0, half), True), (slice(half, width), False)]

    def draw(self, rng, requests):
        values = np.empty((requests.examples, self.width), np.int64)
        for part, side in self.parts:
            shape = (requests.rows(side), part.stop - part.start)
            ids = rng.random(shape, np.float32) ** 3 * np.floor(self.sizes[part])
            values[:, part] = requests.spread(ids.astype(np.int64), side)
        return values, None


class Keys(Column):
    """Identifiers such as a post's: large integers, all different."""

    def __init__(self, rng, width: int, user: bool):
        self.width, self.user = width, user

    def draw(self, rng, requests):
        shape = (requests.rows(self.user), self.width)
        values = rng.integers(1 << 40, 1 << 60, shape, np.int64)
        return requests.spread(values, self.user), None


class Lists(Column):
    """Zero to eight values per record, of any type; missing for a few per cent."""

    width = 4

    def __init__(self, rng, dtype: str, user: bool, vocabulary_size: int):
        self.dtype, self.user = dtype, user
        self.vocabulary_size = vocabulary_size
        self.missing = rng.uniform(0.02, 0.05)

    def draw(self, rng, requests):
        rows = requests.rows(self.user)
        lengths = rng.integers(0, 9, rows)
        total = int(lengths.sum())
        ids = (rng.random(total) ** 3 * self.vocabulary_size).astype(np.int64)
        if self.dtype == "float_list":
            values = np.exp(rng.standard_normal(total, np.float32))
        elif self.dtype == "int64_list":
            values = ids
        else:
            values = np.array([b"token-%d" % i for i in ids], object)
        lists = np.split(values, np.cumsum(lengths)[:-1])
        present = rng.random(rows) >= self.missing
        order = requests.spread(np.arange(rows), self.user)
        return [lists[row] if present[row] else None for row in order], None


class Tokens(Column):
    """Byte strings from a small vocabulary."""

    def __init__(self, rng, width: int, user: bool, vocabulary_size: int):
        self.width = width
        self.ids = Categories(rng, width, user, vocabulary_size)

    def draw(self, rng, requests):
        ids, _ = self.ids.draw(rng, requests)
        return np.char.add("token-", ids.astype(str)), None
