"""Soft targets made where the model computes, the same as `training.soft_targets` makes on a processor.

There each batch is a product of sparse matrices, some 20,000 tokens a second: a GPU would wait for it. Here the targets
of a few thousand places at a time come from gathers of fixed width, and nothing is asked back from the device.

A place that has fewer entries than the width has room for still reads scores. So an entry of no share points to the
place's own target, whose score is never minus infinity; zero times minus infinity would be no number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from training.soft_targets import DECAY, MOST, WINDOW, Layout, Successors

LEAST = 1e-6
"""What is left of a pair's weight by rounding when the window's own pairs are taken from it is less than this."""


@dataclass(frozen=True, slots=True)
class SuccessorTable:
    """The successors of each title, in rows of one width.

    Attributes:
        columns: the titles that follow, 0 where there are fewer than `MOST`; int64, of shape (titles, `MOST`).
        weights: their pairs' weights, 0 there; of the same shape.
    """

    columns: Tensor
    weights: Tensor

    @classmethod
    def of(cls, successors: Successors, device: str) -> Self:
        """Lay the successors out on a device."""
        pairs = successors.pairs
        counts = np.diff(pairs.indptr)
        rows = np.repeat(np.arange(len(counts)), counts)
        place = np.arange(len(rows)) - pairs.indptr[rows]
        columns = np.zeros((len(counts), MOST), np.int64)
        weights = np.zeros((len(counts), MOST), np.float32)
        columns[rows, place], weights[rows, place] = pairs.indices, pairs.data
        return cls(torch.from_numpy(columns).to(device), torch.from_numpy(weights).to(device))


@dataclass(frozen=True, slots=True)
class DeviceLayout:
    """Where the titles of a batch stand, as tensors.

    Attributes:
        titles: of each example, in order, -1 after the last; of shape (examples, length).
        owners: whose each supervised token is, of shape (supervised,).
        behind: the place in `titles` that each supervised title stands behind, -1 for other tokens and without one.
        wanted: each supervised token's column.
    """

    titles: Tensor
    owners: Tensor
    behind: Tensor
    wanted: Tensor

    @classmethod
    def of(cls, layout: Layout, examples: int, length: int) -> Self:
        """Lay a batch out in host memory.

        Args:
            layout: see there.
            examples: how many the batch has.
            length: the most titles that one of them can have.
        """
        within = np.arange(len(layout.users)) - np.searchsorted(layout.users, layout.users)
        titles = np.full((examples, length), -1)
        titles[layout.users, within] = layout.titles
        behind = np.full(len(layout.wanted), -1)
        behind[layout.places[layout.told + 1]] = within[layout.told]
        return cls(*map(torch.from_numpy, (titles, layout.owners, behind, layout.wanted)))

    def map(self, change: Callable[[Tensor], Tensor]) -> Self:
        """Return the layout with each of its tensors changed."""
        return type(self)(change(self.titles), change(self.owners), change(self.behind), change(self.wanted))


class DeviceTargets:
    """The targets of one batch, made for a few rows at a time when the loss asks for them.

    Args:
        table: what follows what.
        layout: of the batch, on the device.
        share: the share of a target that others make up, from 0 to 1.
        exclude_seen: leave titles that stand before a place out of the loss there, but for the target itself.
    """

    def __init__(self, table: SuccessorTable, layout: DeviceLayout, share: float, exclude_seen: bool) -> None:
        self._layout, self._share, self._exclude_seen = layout, share, exclude_seen
        titles, size = layout.titles, len(table.columns)
        self._size = size
        examples, length = titles.shape
        places = torch.arange(length, device=titles.device, dtype=torch.float32).expand(examples, -1)
        # Where each title stands first; the column beyond the last takes what is no title.
        self._first = places.new_full((examples, size + 1), float(length)).scatter_reduce_(
            1, torch.where(titles < 0, size, titles), places, "amin"
        )
        self._kept: tuple[int, Tensor, Tensor] | None = None
        if share > 0:
            self._columns, self._weights = self._others(table)

    def leave_out(self, scores: Tensor, start: int) -> None:
        """Set to minus infinity, in place, the scores of what cannot come next."""
        if not self._exclude_seen:
            return
        rows = slice(start, start + len(scores))
        out = self._first[self._layout.owners[rows], : self._size] <= self._layout.behind[rows, None]
        out.scatter_(1, self._layout.wanted[rows, None], False)
        scores.masked_fill_(out, -torch.inf)

    def likelihood(self, scores: Tensor, start: int) -> Tensor:
        """Return the sum of log-probabilities, each times its share of its row's target."""
        columns, shares = self._entries(start, len(scores))
        return (scores.gather(1, columns) * shares).sum()

    def subtract(self, probabilities: Tensor, start: int) -> Tensor:
        """Take the shares from the probabilities, in place, and return them."""
        columns, shares = self._entries(start, len(probabilities))
        return probabilities.scatter_add_(1, columns, -shares)

    def _others(self, table: SuccessorTable) -> tuple[Tensor, Tensor]:
        """Return the shares of other users' next items after each title of the batch, less if counts are small."""
        titles = self._layout.titles
        columns = table.columns[titles.clamp(min=0)]
        weights = torch.where(titles[..., None] < 0, 0.0, table.weights[titles.clamp(min=0)])
        for distance in range(1, WINDOW + 1):
            beyond = titles.new_full((len(titles), min(distance, titles.shape[1])), -1)
            later = torch.cat([titles[:, distance:], beyond], dim=1)
            weights = weights - DECAY ** (distance - 1) * (columns == later[..., None])
        weights = torch.where(weights < LEAST, 0.0, weights)
        return columns, weights / (weights.sum(dim=-1, keepdim=True) + 1)

    def _entries(self, start: int, count: int) -> tuple[Tensor, Tensor]:
        """Return the columns and shares of some rows' targets, each of shape (rows, entries)."""
        if self._kept is not None and self._kept[0] == start:
            return self._kept[1:]
        rows = slice(start, start + count)
        wanted = self._layout.wanted[rows, None]
        own = torch.ones_like(wanted, dtype=torch.float32)
        if self._share == 0:
            return wanted, own
        owners, behind = self._layout.owners[rows, None], self._layout.behind[rows, None]
        ages = torch.arange(WINDOW + 1, device=wanted.device)
        places = behind - ages
        columns = self._columns[owners, places.clamp(min=0)]
        decay = torch.where(places < 0, 0.0, DECAY**ages)
        weights = (self._weights[owners, places.clamp(min=0)] * decay[..., None]).flatten(1)
        columns = columns.flatten(1)
        weights = torch.where(self._first[owners, columns] <= behind, 0.0, weights)
        sums = weights.sum(dim=1, keepdim=True)
        shares = self._share * weights / torch.where(sums > 0, sums, 1.0)
        columns = torch.where(shares > 0, columns, wanted)
        found = (torch.cat([wanted, columns], dim=1), torch.cat([own - self._share * (sums > 0), shares], dim=1))
        self._kept = (start, *found)
        return found
