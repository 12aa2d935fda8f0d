"""Which part of a data set an input pipeline reads."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Shard:
    """Which of `count` input pipelines this one is."""

    index: int = 0
    count: int = 1


WHOLE = Shard()
