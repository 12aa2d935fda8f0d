"""Checks of single values, with one wording for their refusals."""

from collections.abc import Iterable
from typing import Any


def check_range(
    name: str,
    value: float | None,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    none: str | None = None,
    error: type[Exception] = ValueError,
) -> None:
    """Raises `error` unless the number lies within the bounds.

    NaN lies within no bounds. With a bound on both sides the message writes them as an
    interval: "Dropout.rate must be in [0, 1). Received: 1.0".

    Args:
        name: of the setting, as the user typed it.
        value: to be checked.
        at_least: the lower bound, if it is allowed itself.
        above: the lower bound, if it is not allowed itself.
        at_most: the upper bound, if it is allowed itself.
        below: the upper bound, if it is not allowed itself.
        none: what None means, if it is allowed: "no limit".
        error: UserError for a flag.
    """
    if value is None and none is not None:
        return
    within = value is not None and (
        (at_least is None or value >= at_least)
        and (above is None or value > above)
        and (at_most is None or value <= at_most)
        and (below is None or value < below)
    )
    if within:
        return
    low = at_least if above is None else above
    high = at_most if below is None else below
    if low is not None and high is not None:
        bounds = f"in {'[' if above is None else '('}{low}, {high}"
        bounds += "]" if below is None else ")"
    elif low is not None:
        bounds = f"at least {low}" if above is None else f"above {low}"
    else:
        bounds = f"at most {high}" if below is None else f"below {high}"
    alternative = "" if none is None else f", or None for {none}"
    raise error(f"{name} must be {bounds}{alternative}. Received: {value}")


def check_choice(
    name: str,
    value: Any,
    known: Iterable[Any],
    *,
    error: type[Exception] = ValueError,
) -> None:
    """Raises `error` unless `value` is one of `known`, which the message lists."""
    known = list(known)
    if value not in known:
        raise error(f"{name} must be one of {known}. Received: {value!r}")
