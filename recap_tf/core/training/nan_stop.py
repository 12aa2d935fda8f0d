"""Ends training at a loss that is NaN or infinite, before a checkpoint holds it."""

from collections.abc import Sequence

import numpy as np

from recap_tf.core.command import UserError


def check_finite(step: int, names: Sequence[str], losses: np.ndarray) -> None:
    """Raises UserError unless all losses are finite; the message names step and loss.

    Args:
        step: after which they were computed.
        names: of the losses; the first one is the sum of the others.
        losses: (names,).
    """
    finite = np.isfinite(losses)
    bad = [name for name, good in zip(names, finite, strict=True) if not good]
    if bad:
        culprits = bad[1:] or bad
        raise UserError(
            f"Step {step}: {', '.join(culprits)} is {losses[names.index(culprits[0])]}."
            " No checkpoint was made of it. Lower the learning rate, or look at the "
            "data with recap_tf.inspect."
        )
