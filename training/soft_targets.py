"""Soft targets: other users' next items get a share of each target, and seen items are left out of the loss.

A log holds one next item for each position, though others were possible. A model that is trained on this one item only
memorises the log before it learns which items usually follow each other, and the sooner the fewer events there are. The
counts of items that other users took within a few events of the same items need no training, so they get a share of
each target. Seen items are excluded from recommendations, so they are left out of the loss, too: the search excludes
them, and the model need not learn it.

Sources: Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network", 2015 (a share of soft targets);
Xie et al., "Data noising as smoothing in neural network language models", ICLR 2017 (counts as what they should say).

The user's own events are not counted: otherwise, after a rare item, the item that "others" took next would be the
target itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from prompts.encoding import IGNORED, Family
from training.losses import Targets

IntArray = NDArray[np.int64]

WINDOW = 5
"""Events from an item on that count as what came after it."""
DECAY = 0.8
"""What one event of distance leaves of a pair's weight, when pairs are counted and when a history looks them up."""
MOST = 64
"""Successors kept of each title: those seen most, which is what a small share of a target can tell anyway."""


@dataclass(frozen=True, slots=True)
class Successors:
    """How often what was taken shortly after what.

    Attributes:
        pairs: the sum over histories of `DECAY`^(distance - 1) for each pair at most `WINDOW` events apart, the `MOST`
            largest of each row; of shape (titles, titles), the earlier title's row.
    """

    pairs: sparse.csr_array

    @classmethod
    def count(cls, histories: Sequence[Sequence[int]], size: int) -> Self:
        """Count the pairs of histories.

        Args:
            histories: numbers of titles, oldest first.
            size: how many titles there are.
        """
        titles = np.fromiter(chain.from_iterable(histories), np.int64)
        users = np.repeat(np.arange(len(histories)), [len(history) for history in histories])
        rows, weights = _following(users)
        pairs = sparse.coo_array((weights, (titles[rows[:, 0]], titles[rows[:, 1]])), shape=(size, size))
        return cls(_largest(pairs.tocsr()))

    def after(self, titles: IntArray, users: IntArray) -> sparse.csr_array:
        """Return the shares of other users' next items after each position of some windows; nearer items count more.

        Args:
            titles: numbers of titles, one window after another.
            users: which window each place is of, rising.

        Returns:
            shape (places, titles); the pairs within the windows themselves are not counted, and titles of the window
            up to the place are left out. A row's sum is 1, or 0 where there is nothing to tell.
        """
        size = len(titles)
        rows, weights = _following(users)
        own = sparse.coo_array((weights, (rows[:, 0], titles[rows[:, 1]])), shape=(size, self.pairs.shape[1]))
        others = (self.pairs[titles] - own.tocsr()).tocsr()
        # Rounding leaves some of the window's own pairs, and of those that were not kept the opposite.
        others.data[others.data < 1e-6] = 0
        others.eliminate_zeros()
        # Shares of what followed each item, and little of them where little is known.
        ages = sparse.coo_array((DECAY * weights, (rows[:, 1], rows[:, 0])), shape=(size, size)).tocsr()
        near = (ages + sparse.eye_array(size, format="csr")) @ sparse.diags_array(1 / (others.sum(axis=1) + 1))
        found = (near.tocsr() @ others).tocsr()
        found = (found - found.multiply(self._taken(titles, users))).tocsr()
        found.data[found.data < 0] = 0
        found.eliminate_zeros()
        sums = found.sum(axis=1)
        shares: sparse.csr_array = (sparse.diags_array(1 / np.where(sums > 0, sums, 1)) @ found).tocsr()
        return shares

    def _taken(self, titles: IntArray, users: IntArray) -> sparse.csr_array:
        rows, columns = taken(titles, users)
        shape = (len(titles), self.pairs.shape[1])
        seen = sparse.coo_array((np.ones(len(rows)), (rows, columns)), shape=shape).tocsr()
        seen.data[:] = 1  # a title taken twice
        return seen


def _largest(pairs: sparse.csr_array) -> sparse.csr_array:
    rows = np.repeat(np.arange(pairs.shape[0]), np.diff(pairs.indptr))
    order = np.lexsort((-pairs.data, rows))  # rows stay where they are
    place = np.arange(len(rows)) - pairs.indptr[rows]
    kept = order[place < MOST]
    return sparse.coo_array((pairs.data[kept], (rows[kept], pairs.indices[kept])), shape=pairs.shape).tocsr()


def taken(titles: IntArray, users: IntArray) -> tuple[IntArray, IntArray]:
    """Return each place of some windows with each title of its window up to the place, as rows and columns.

    Args:
        titles: numbers of titles, one window after another.
        users: which window each place is of, rising.
    """
    starts = np.searchsorted(users, users)
    counts = np.arange(len(users)) - starts + 1
    rows = np.repeat(np.arange(len(users)), counts)
    within = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    return rows, titles[np.repeat(starts, counts) + within]


def _following(users: IntArray) -> tuple[IntArray, NDArray[np.float64]]:
    """Return the pairs of places (earlier, later) of the same user within the window, and their weights."""
    pairs, weights = [np.empty((0, 2), np.int64)], [np.empty(0)]
    for distance in range(1, WINDOW + 1):
        earlier = np.flatnonzero(users[distance:] == users[:-distance])
        pairs.append(np.stack([earlier, earlier + distance], axis=1))
        weights.append(np.full(len(earlier), DECAY ** (distance - 1)))
    return np.concatenate(pairs), np.concatenate(weights)


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the titles and the supervised tokens of a batch stand.

    Attributes:
        titles: the columns of the titles that are one token, one example after another.
        users: whose each of them is, rising.
        places: which supervised token each of them is, -1 for those that are only read.
        told: those of them, but for an example's last, whose next one is supervised.
        wanted: each supervised token's column.
        owners: whose each supervised token is, rising.
    """

    titles: IntArray
    users: IntArray
    places: IntArray
    told: IntArray
    wanted: IntArray
    owners: IntArray


class SoftTargets:
    """Makes the targets of a batch; only titles that are one token give to them and get from them.

    Args:
        tokens: the tokens that the loss is over, sorted.
        answers: each title's tokens.
        histories: the numbers (in `answers`) of what each training user took, oldest first.
        share: the share of a target that others make up, from 0 to 1.
        exclude_seen: leave titles that stand before a place out of the loss there, but for the target itself.
    """

    def __init__(
        self,
        tokens: Tensor,
        answers: Sequence[Sequence[int]],
        histories: Sequence[Sequence[int]],
        share: float,
        exclude_seen: bool,
    ) -> None:
        self.tokens, self.share, self.exclude_seen = tokens, share, exclude_seen
        self._wanted = tokens.numpy()
        columns = {int(token): column for column, token in enumerate(tokens)}
        whole = [columns[answer[0]] if len(answer) == 1 else -1 for answer in answers]
        self._column = np.full(int(tokens.max()) + 2, -1)
        for column in whole:
            if column >= 0:
                self._column[int(tokens[column])] = column
        kept = [[whole[title] for title in history if whole[title] >= 0] for history in histories]
        self.successors = Successors.count(kept, len(tokens))

    def of(self, family: Family, inputs: dict[str, Tensor], hard: bool = False) -> Targets:
        """Return the targets of a batch's supervised tokens, in their order.

        Args:
            family: causal, whose labels stand beside their inputs; or seq2seq, whose labels follow its inputs.
            inputs: `input_ids`, `attention_mask` and `labels`, each of shape (examples, length).
            hard: without the shares of others, for judging.
        """
        return self.targets(self.layout(family, inputs), hard)

    def targets(self, layout: Layout, hard: bool = False) -> Targets:
        """Return the targets of a batch that is laid out; see `of`."""
        titles, users, told, places, wanted = layout.titles, layout.users, layout.told, layout.places, layout.wanted
        own_share = np.ones(len(wanted))
        rows, others, shares = [np.arange(len(wanted))], [wanted], []
        if self.share > 0 and len(told) and not hard:
            found = self.successors.after(titles, users)[told].tocoo()
            own = places[told + 1]
            own_share[own[np.unique(found.row)]] -= self.share
            rows.append(own[found.row])
            others.append(found.col.astype(np.int64))
            shares.append(self.share * found.data)
        return Targets.of(
            np.concatenate(rows), np.concatenate(others), np.concatenate([own_share, *shares]),
            *self._excluded(titles, users, told, places, wanted),
        )  # fmt: skip

    def layout(self, family: Family, inputs: dict[str, Tensor]) -> Layout:
        """Return the positions of the titles and the supervised tokens of a batch.

        Args:
            family: see `of`.
            inputs: likewise, in host memory.
        """
        labels, given = inputs["labels"].numpy(), inputs["attention_mask"].numpy() > 0
        supervised = labels != IGNORED
        ids = np.where(given, inputs["input_ids"].numpy(), -1)
        if family == "seq2seq":
            ids = np.concatenate([ids, np.where(supervised, labels, -1)], axis=1)
            supervised = np.concatenate([np.zeros_like(given), supervised], axis=1)
        wanted = np.searchsorted(self._wanted, labels[labels != IGNORED])
        place = np.where(supervised, supervised.reshape(-1).cumsum().reshape(supervised.shape) - 1, -1)
        columns = self._column[np.clip(ids, -1, len(self._column) - 1)]
        users = np.broadcast_to(np.arange(len(ids))[:, None], ids.shape)[columns >= 0]
        places, titles = place[columns >= 0], columns[columns >= 0]
        # Each title with the one before it, where that is the same user's and this one is supervised.
        told = np.flatnonzero((users[1:] == users[:-1]) & (places[1:] >= 0))
        return Layout(titles, users, places, told, wanted, np.nonzero(labels != IGNORED)[0])

    def _excluded(
        self, titles: IntArray, users: IntArray, told: IntArray, places: IntArray, wanted: IntArray
    ) -> tuple[IntArray, IntArray]:
        if not self.exclude_seen or not len(told):
            return np.empty(0, np.int64), np.empty(0, np.int64)
        rows, columns = taken(titles, users)
        to = np.full(len(titles), -1)
        to[told] = places[told + 1]
        rows = to[rows]
        kept = (rows >= 0) & (columns != wanted[rows])
        return rows[kept], columns[kept]
