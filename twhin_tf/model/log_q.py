"""Log-Q correction: how likely a negative was to be drawn is taken out of its score.

    corrected score = score - log q,  q the probability of being drawn

Frequent nodes are drawn more often, and would be pushed away for that alone (Bengio and
Senecal 2008; Yi et al. 2019, eq. 3).
"""

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from twhin_tf.model.edge_batch import Side


class LogQ:
    """Log-probabilities of the rows of each type on each side.

    Args:
        shares: side -> of each type there, (rows,) the probability of each row.
    """

    def __init__(self, shares: Mapping[str, Sequence[np.ndarray]]):
        self._starts, self._logs = {}, {}
        for side, by_type in shares.items():
            sizes = [0, *(len(share) for share in by_type)]
            self._starts[side] = tf.constant(np.cumsum(sizes)[:-1], tf.int64)
            joined = np.concatenate(by_type)
            # A node that is never drawn, but met in another split.
            joined = np.maximum(joined, joined[joined > 0].min(initial=1.0))
            self._logs[side] = tf.constant(np.log(joined), tf.float32)

    def of(
        self, side: Side, rows: tf.Tensor, edges_rows: tf.Tensor, group: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Log-probabilities of candidates, (groups, n), and of edges' nodes, (batch,).

        Args:
            side: the one that candidates stand in for.
            rows: (groups, n) of the candidates; a group is a type.
            edges_rows: (batch,) of the edges' own nodes.
            group: (batch,) the type of each.
        """
        starts, logs = self._starts[side], self._logs[side]
        drawn = tf.gather(logs, starts[:, tf.newaxis] + tf.cast(rows, tf.int64))
        at = tf.gather(starts, group) + tf.cast(edges_rows, tf.int64)
        return drawn, tf.gather(logs, at)
