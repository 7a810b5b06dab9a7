"""From several ranked lists to one."""

from __future__ import annotations

from collections.abc import Sequence

RECIPROCAL_RANK_CONSTANT = 60
"""The constant of reciprocal-rank fusion; 60 is its authors' value and is not tuned here."""


def fuse_reciprocal_ranks(lists: Sequence[Sequence[int]]) -> list[tuple[int, float]]:
    """Fuse ranked lists without tuning: score(item) = sum over lists of 1 / (60 + rank).

    Source: Cormack, Clarke and Buettcher, "Reciprocal rank fusion outperforms Condorcet and individual rank learning
    methods", SIGIR 2009, equation 1. Equal sums keep the order of the first list, then of the next.

    Args:
        lists: item rows, best first, each distinct within its list.

    Returns:
        (row, score) pairs, best first.
    """
    scores: dict[int, float] = {}
    for rows in lists:
        for rank, row in enumerate(rows, start=1):
            scores[row] = scores.get(row, 0.0) + 1 / (RECIPROCAL_RANK_CONSTANT + rank)
    return sorted(scores.items(), key=lambda entry: -entry[1])
