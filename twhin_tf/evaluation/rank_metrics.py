"""Metrics of ranks: mean reciprocal rank, mean rank, hits; and a sampled AUC."""

import math

import numpy as np

HITS = (1, 3, 10, 50)
_PAIRS = 100_000


def rank_metrics(ranks: np.ndarray) -> dict[str, float | None]:
    """Computes the metrics of (n,) ranks, of which the best is 1; n at least 1.

    >>> metrics = rank_metrics(np.array([1.0, 2.0, 4.0]))
    >>> round(metrics["mrr"], 3), round(metrics["mrr_error"], 3), metrics["hits@1"]
    (0.583, 0.22, 0.3333333333333333)

    Returns:
        "mrr", the mean reciprocal rank; "mrr_error", its standard error, None of a
        single rank; "mean_rank"; "hits@k", the share of ranks up to k, for `HITS`.
    """
    reciprocal, error = 1 / ranks, None
    if len(ranks) > 1:
        error = float(reciprocal.std(ddof=1) / math.sqrt(len(ranks)))
    return {
        "mrr": float(reciprocal.mean()),
        "mrr_error": error,
        "mean_rank": float(ranks.mean()),
        **{f"hits@{k}": float((ranks <= k).mean()) for k in HITS},
    }


def sampled_auc(scores: np.ndarray, negatives: np.ndarray, seed: int) -> float:
    """Estimates the chance that an edge scores above another one with a random end.

    >>> sampled_auc(np.array([3.0, 4.0]), np.array([[1.0], [2.0]]), seed=0)
    1.0

    Args:
        scores: (n,) of edges.
        negatives: (n, negatives), scores of edges with a random end.
        seed: of the 100,000 pairs that are drawn.
    """
    # The streaming metric of the same name takes half a minute for 237 relations.
    rng = np.random.default_rng(seed)
    drawn = rng.choice(scores, _PAIRS), rng.choice(negatives.reshape(-1), _PAIRS)
    return float((drawn[0] > drawn[1]).mean() + (drawn[0] == drawn[1]).mean() / 2)
