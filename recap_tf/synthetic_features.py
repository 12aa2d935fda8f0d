"""Feature values that look like a production ranker's: skewed, sparse, partly missing.

Examples come in requests: one user and the candidates that were ranked for them. What
belongs to the user is drawn once and repeated over the candidates. A few hidden
factors move many columns each, as a user's activity moves all counts about them; what
the labels depend on (see `hidden_model`) is read off the drawn values along
`directions`, one per factor.
"""

import dataclasses
import re
import statistics
import zlib
from collections.abc import Mapping, Set

import numpy as np

from recap_tf.schema import VARIABLE, Feature, Schema

_BLOCKS = 40  # a wide feature alternates between user's and candidate's columns
_USER_BLOCKS = (0, 2)  # of every five


@dataclasses.dataclass(frozen=True)
class Requests:
    """Requests in a row; row r of what belongs to users has sizes[r] candidates."""

    sizes: np.ndarray

    @property
    def users(self) -> int:
        return len(self.sizes)

    @property
    def examples(self) -> int:
        return int(self.sizes.sum())

    def rows(self, user: bool) -> int:
        return self.users if user else self.examples

    def spread(self, rows: np.ndarray, user: bool) -> np.ndarray:
        """One row per example: the users' rows repeated, the candidates' as they are."""
        return np.repeat(rows, self.sizes, axis=0) if user else rows


class Column:
    """A feature of a record; draws its values.

    `directions` (used columns, signals) says which combinations of `view(values)` the
    hidden model may read; `from_user` (signals,) which of them belong to the user.
    `standardized` says that a model sees every column of the view scaled to unit
    variance.
    """

    standardized = False

    directions = np.zeros((0, 0), np.float32)
    from_user = np.zeros(0, bool)

    def draw(
        self, rng: np.random.Generator, requests: Requests
    ) -> tuple[np.ndarray | list, np.ndarray | None]:
        """The values, one row per example, and where they are present (None: all)."""
        raise NotImplementedError("A column defines draw().")

    def view(self, values: np.ndarray) -> np.ndarray:
        """(n, width) stored values -> (n, used columns), as a model would see them."""
        raise NotImplementedError("A column with directions defines view().")


class _Latent(Column):
    """Columns that each follow one of a few hidden factors, some the user's."""

    def __init__(
        self,
        rng: np.random.Generator,
        width: int,
        used: int,
        user: bool,
        max_factors: int,
    ):
        self.width, self.used = width, min(used, width)
        size = max(1, width // _BLOCKS)
        self.blocks = [
            (slice(start, min(start + size, width)), user or i % 5 in _USER_BLOCKS)
            for i, start in enumerate(range(0, width, size))
        ]
        is_user = np.zeros(width, bool)
        for block, block_is_user in self.blocks:
            is_user[block] = block_is_user
        self.factors = {}
        self.factor = np.zeros(width, np.int64)
        directions, from_user = [], []
        # Both signs, so that a layer norm over the row, which takes the mean away,
        # takes no factor away with it.
        sign = rng.choice([-1.0, 1.0], width)
        for side in (True, False):
            columns = np.flatnonzero(is_user == side)
            count = int(np.sum(columns < self.used))
            self.factors[side] = min(max_factors, max(1, count // 8))
            self.factor[columns] = np.arange(len(columns)) % self.factors[side]
            for k in range(min(self.factors[side], count)):
                follows = (is_user == side) & (self.factor == k)
                directions.append((sign * follows)[: self.used])
                from_user.append(side)
        self.loading = (sign * rng.uniform(0.85, 0.98, width)).astype(np.float32)
        self.directions = np.array(directions, np.float32).T
        self.from_user = np.array(from_user, bool)

    def _draw_normal(self, rng: np.random.Generator, requests: Requests):
        """Yields (block, of users, (rows, columns) standard normal values)."""
        noise = np.sqrt(1.0 - self.loading**2)
        factors = {
            side: rng.standard_normal((requests.rows(side), count), np.float32)
            for side, count in self.factors.items()
        }
        for block, side in self.blocks:
            shape = (requests.rows(side), block.stop - block.start)
            x = rng.standard_normal(shape, np.float32)
            x *= noise[block]
            followed = factors[side][:, self.factor[block]]
            followed *= self.loading[block]
            x += followed
            yield block, side, x


class Aggregates(_Latent):
    """Counts, decayed counts and rates: log-normal above a threshold, else 0.

    Seven columns of ten values are 0, more in the later columns; a few columns are
    constant, a few hold a rare NaN or infinity, a few are negative. Values keep
    7 bits of mantissa, about what such counts hold.
    """

    standardized = True

    def __init__(self, rng, width: int, used: int, user: bool):
        super().__init__(rng, width, used, user, max_factors=3)
        zeros = 0.5 + 0.4 * np.arange(width) / width
        zeros = np.clip(rng.beta(2.5 * zeros, 2.5 * (1.0 - zeros)), 0.01, 0.995)
        self.loc = rng.normal(1.0, 1.5, width).astype(np.float32)
        self.scale = rng.uniform(0.6, 1.6, width).astype(np.float32)
        threshold = [statistics.NormalDist().inv_cdf(share) for share in zeros]
        self.smallest = np.exp(self.loc + self.scale * np.array(threshold, np.float32))
        counts = (self.loc > 0.5) & (rng.random(width) < 0.7)
        self.step = np.where(counts, 1.0, 2.0**-20).astype(np.float32)
        self.sign = np.where(rng.random(width) < 0.03, -1, 1).astype(np.float32)
        kind = rng.random(width)
        self.constant = kind < 0.01
        self.smallest[self.constant] = np.inf
        self.constant_value = np.where(rng.random(width) < 0.3, 1.0, 0.0)
        self.broken = (kind > 0.997) | (np.arange(width) == width // 2)

    def draw(self, rng, requests):
        values = np.empty((requests.examples, self.width), np.float32)
        for block, side, x in self._draw_normal(rng, requests):
            x *= self.scale[block]
            x += self.loc[block]
            np.exp(x, out=x)
            x *= x >= self.smallest[block]
            x *= 1.0 / self.step[block]
            np.rint(x, out=x)
            x *= self.step[block] * self.sign[block]
            bits = x.view(np.uint32)
            bits &= np.uint32(0xFFFF0000)
            constant = self.constant[block]
            x[:, constant] = self.constant_value[block][constant]
            for column in np.flatnonzero(self.broken[block]):
                hit = np.flatnonzero(rng.random(len(x)) < 0.002)
                x[hit, column] = rng.choice([np.nan, np.inf, -np.inf], len(hit))
            values[:, block] = requests.spread(x, side)
        return values, None

    def view(self, values):
        x = values[:, : self.used]
        x = np.where(np.isfinite(x), x, np.float32(0.0))
        return np.copysign(np.log1p(np.abs(x)), x)


class Bits(_Latent):
    """Flags: 0 or 1, mostly 0."""

    def __init__(self, rng, width: int, used: int, user: bool):
        super().__init__(rng, width, used, user, max_factors=1)
        shares = rng.uniform(0.05, 0.5, width)
        threshold = [statistics.NormalDist().inv_cdf(1.0 - share) for share in shares]
        self.threshold = np.array(threshold, np.float32)

    def draw(self, rng, requests):
        values = np.empty((requests.examples, self.width), np.uint8)
        for block, side, x in self._draw_normal(rng, requests):
            values[:, block] = requests.spread(x > self.threshold[block], side)
        return values, None

    def view(self, values):
        return values[:, : self.used].astype(np.float32)


class Embedding(Column):
    """A vector near a plane; missing for a few per cent.

    Its signal is the coordinate along one axis of the plane, after scaling the row
    to length sqrt(width), as a layer norm does.
    """

    SPREAD = 0.07

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
        values *= self.SPREAD
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
    """Ids below a vocabulary size of the column's own, small ids most frequent."""

    def __init__(self, rng, width: int, user: bool, vocabulary_size: int):
        sizes = np.exp(rng.uniform(np.log(2), np.log(vocabulary_size + 1), width))
        self.sizes = np.minimum(sizes, vocabulary_size).astype(np.float32)
        half = width if user else width * 2 // 5
        self.parts = [(slice(0, half), True), (slice(half, width), False)]

    def draw(self, rng, requests):
        values = np.empty((requests.examples, len(self.sizes)), np.int64)
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
        kept = rng.random(rows) >= self.missing
        order = requests.spread(np.arange(rows), self.user)
        return [lists[row] if kept[row] else None for row in order], None


class Tokens(Column):
    """Byte strings from a small vocabulary."""

    def __init__(self, rng, width: int, user: bool, vocabulary_size: int):
        self.ids = Categories(rng, width, user, vocabulary_size)

    def draw(self, rng, requests):
        ids, _ = self.ids.draw(rng, requests)
        return np.char.add("token-", ids.astype(str)), None


def make_columns(
    schema: Schema,
    names: Mapping[str, str],
    labels: Set[str],
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
