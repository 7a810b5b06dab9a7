"""Operations on the continuations of many users' beams, stored in one flat array."""

from __future__ import annotations

import torch
from torch import Tensor


def contains(keys: Tensor, queries: Tensor) -> Tensor:
    """Return which queries are among the sorted keys."""
    if not len(keys):
        return torch.zeros(len(queries), dtype=torch.bool, device=queries.device)
    place = torch.searchsorted(keys, queries).clamp_(max=len(keys) - 1)
    return keys[place] == queries


def log_sum_exp(values: Tensor, group: Tensor, groups: int) -> Tensor:
    """Return log(sum(exp(values))) within each group."""
    top = torch.full((groups,), -torch.inf, device=values.device).scatter_reduce(0, group, values, "amax")
    total = torch.zeros(groups, device=values.device).index_add(0, group, (values - top[group]).exp())
    return top + total.log()


def best_of_each(
    scores: Tensor, child: Tensor, beam: Tensor, user: Tensor, users: int, most: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the best `most` entries of each user as rows; ties keep the order of beams, then of tokens."""
    order = scores.argsort(descending=True, stable=True)
    order = order[user[order].argsort(stable=True)]
    counts = torch.bincount(user, minlength=users)
    rank = torch.arange(len(order), device=scores.device) - (counts.cumsum(0) - counts)[user[order]]
    kept = rank < most
    order, rank = order[kept], rank[kept]
    shape = (users, max(1, min(most, int(counts.max()))))
    best = torch.full(shape, -torch.inf, device=scores.device).index_put((user[order], rank), scores[order])
    nodes = torch.zeros(shape, dtype=torch.long, device=scores.device).index_put((user[order], rank), child[order])
    beams = torch.zeros(shape, dtype=torch.long, device=scores.device).index_put((user[order], rank), beam[order])
    return best, nodes, beams
