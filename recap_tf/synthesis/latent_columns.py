"""Wide features in which a few hidden factors move many columns each.

As a user's activity moves all counts about them. Some columns are the user's, some the
candidate's.
"""

import statistics

import numpy as np

from recap_tf.synthesis.columns import Column, Requests

_BLOCKS = 40  # a wide feature alternates between user's and candidate's columns
_USER_BLOCKS = (0, 2)  # of every five


class LatentColumns(Column):
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


class Aggregates(LatentColumns):
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
        self.negative = rng.random(width) < 0.03
        self.directions[self.negative[: self.used]] *= -1.0
        kind = rng.random(width)
        self.constant = kind < 0.01
        self.smallest[self.constant] = np.inf
        self.constant_value = np.where(rng.random(width) < 0.3, 1.0, 0.0)
        self.broken = kind > 0.997
        self.broken[self.blocks[min(1, len(self.blocks) - 1)][0].start] = True

    def draw(self, rng, requests):
        values = np.empty((requests.examples, self.width), np.float32)
        for block, side, x in self._draw_normal(rng, requests):
            x *= self.scale[block]
            x += self.loc[block]
            np.exp(x, out=x)
            x *= x >= self.smallest[block]
            x *= 1.0 / self.step[block]
            np.rint(x, out=x)
            x *= self.step[block]
            bits = x.view(np.uint32)
            bits &= np.uint32(0xFFFF0000)
            negative = self.negative[block]
            x[:, negative] = 0.0 - x[:, negative]
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


class Bits(LatentColumns):
    """Flags: 0 or 1, mostly 0."""

    def __init__(self, rng, width: int, used: int, user: bool):
        super().__init__(rng, width, used, user, max_factors=1)
        shares = rng.uniform(0.05, 0.5, width)
        threshold = [statistics.NormalDist().inv_cdf(1.0 - share) for share in shares]
        self.threshold = np.array(threshold, np.float32)

    def draw(self, rng, requests):
        values = np.empty((requests.examples, self.width), bool)
        for block, side, x in self._draw_normal(rng, requests):
            values[:, block] = requests.spread(x > self.threshold[block], side)
        return values, None

    def view(self, values):
        return values[:, : self.used].astype(np.float32)
