"""Candidates: the items that one user's list is chosen from, with everything that is known of each.

They are the language model's own items and those that the other signals together score highest, or, where the fit
found it to help, each by itself. Every candidate gets every signal, and the model's exact log-likelihood.

Users differ in what there is to go by (`History.basis`), and what that means is written here and nowhere else: see
`CandidateMaker._pools` and `CandidateMaker._without_model`.

Prompts that are read together are of similar length, so users come back in another order; they are put back by their
places.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from genrec.data.catalog import Catalog
from genrec.data.history_batch import HistoryBatch
from genrec.data.rows import NO_ITEM, IntArray, top_rows
from genrec.data.splits import Basis
from genrec.errors import ConfigError
from genrec.language.decoder import Found
from genrec.language.proposer import Proposal, Proposer
from genrec.ranking.filters import FilteredOut
from genrec.ranking.forest import shares_of
from genrec.ranking.fusion import CANDIDATES, Fusion, log_levels
from genrec.ranking.taste import TasteReader
from genrec.recommendation import How
from genrec.settings import Settings
from genrec.signals.arrays import FloatArray
from genrec.signals.simple import Signal

CONSIDERED = 200
"""How many items the weighted sum puts before the forest, which chooses the candidates among them."""


@dataclass(frozen=True, slots=True)
class Pool:
    """One user's candidates, as the signals see them.

    Attributes:
        basis: what there is to go by.
        rows: int64 [candidates]; item rows.
        values: float32 [candidates, signals]; what each signal says, as it says it.
        shares: float32 [candidates, signals]; the same, as shares of what the signal gives to the whole catalogue.
        length: how many items the history has.
        evidence: float32 [candidates]; what all signals together say, under the fitted weights.
        alone: float32 [candidates]; the scores without the language model: the evidence, or the nearness to the taste
            where only that is known, or the popularity where nothing is.
        taste: float32 [candidates]; similarities to what the user says of their taste; None where nothing is said.
    """

    basis: Basis
    rows: IntArray
    values: FloatArray
    shares: FloatArray
    length: int
    evidence: FloatArray
    alone: FloatArray
    taste: FloatArray | None


@dataclass(frozen=True, slots=True)
class Candidates(Pool):
    """What one user's list is chosen from: the pool, and what the language model says.

    Attributes:
        likelihoods: float32 [candidates]; the model's log-likelihoods; None where it was not asked.
        found: what the language model found by itself.
        texts: for the items that the model found, how, and the text that it wrote.
    """

    likelihoods: NDArray[np.float32] | None
    found: Found
    texts: Mapping[int, tuple[How, str]]


@dataclass(frozen=True, slots=True)
class CandidateMaker:
    """Makes each user's candidates from the signals, the language model and the fitted weights.

    Attributes:
        catalog: the items.
        signals: every kind of evidence but the model, by name, in the order of features; "similarity" and
            "popularity" are among them.
        fusion: the fitted weights; None where none were fitted.
        order: the order of items among equals; see `genrec.data.rows.tie_order`.
        proposer: asks the language model.
        filtered_out: which items a call's filters keep from everybody.
        taste_reader: gives what compares tastes with items; called when a taste is first given.
        keep_seen: whether the run was trained for lists with items of the history.
    """

    catalog: Catalog
    signals: Mapping[str, Signal]
    fusion: Fusion | None
    order: IntArray
    proposer: Proposer
    filtered_out: FilteredOut
    taste_reader: Callable[[], TasteReader]
    keep_seen: bool

    def make(
        self,
        batch: HistoryBatch,
        settings: Settings,
        count: int | None = None,
        ask_model: bool = True,
        each: int | None = None,
    ) -> list[Candidates]:
        """Return each user's candidates, in the order of the batch.

        Args:
            batch: who is asked for.
            settings: how to recommend.
            count: how many candidates the signals put up together, at least twice as many as are asked for; what the
                fit found where left out. The language model's items are added to them.
            ask_model: whether the language model is asked.
            each: how many each signal puts up besides by itself; what the fit found where left out.

        Raises:
            ConfigError: the filters name what no item has, or no item passes them; or signals have come or gone since
                the weights were fitted.
        """
        closed = self.filtered_out.rows(settings.filters)
        taken = [batch.rows_of(user) for user in range(len(batch))]
        hides = settings.excludes_seen(self.keep_seen)
        excluded = [np.union1d(closed, rows) if hides else closed for rows in taken]
        if count is None:
            count = self.fusion.together if self.fusion else CANDIDATES
        if each is None:
            each = self.fusion.each if self.fusion else 0
        most = max(count, 2 * settings.k, settings.reranking.candidates(settings.k))
        made: dict[int, Candidates] = {}
        for users, prompts in self._stretches(batch, settings.batch_size, ask_model):
            own = [excluded[user] for user in users]
            found = self._make(batch.take(users), prompts, own, settings, most, each)
            made |= dict(zip(users, found, strict=True))
        return [made[user] for user in range(len(batch))]

    def _stretches(
        self, batch: HistoryBatch, batch_size: int, ask_model: bool
    ) -> Iterator[tuple[list[int], list[tuple[int, ...]]]]:
        """Yield users and their prompts, of similar length together; no prompts where the model is not asked."""
        told = [ask_model and history.basis != "nothing" for history in batch]
        asked = [user for user, tells in enumerate(told) if tells]
        prompts = [tuple(self.proposer.prompt(batch[user]).input_ids) for user in asked]
        for places in self.proposer.batches(prompts, batch_size):
            yield [asked[place] for place in places], [prompts[place] for place in places]
        others = [user for user, tells in enumerate(told) if not tells]
        for start in range(0, len(others), batch_size):
            yield others[start : start + batch_size], []

    def _make(
        self,
        batch: HistoryBatch,
        prompts: Sequence[tuple[int, ...]],
        excluded: Sequence[IntArray],
        settings: Settings,
        most: int,
        each: int,
    ) -> list[Candidates]:
        """Return the candidates of users whose prompts are read together."""
        decoder, beams = self.proposer.decoder, max(settings.k, settings.beams)
        read = decoder.read(prompts) if prompts else None
        if read is None:
            proposals = [Proposal.nothing()] * len(batch)
        elif settings.mode == "constrained":
            proposals = self.proposer.propose_exact(read, beams, excluded)
        else:
            proposals = self.proposer.propose_free(prompts, settings.beams, beams, excluded)
        pools = self._pools(batch, [proposal.found.rows for proposal in proposals], excluded, most, each)
        likelihoods: Sequence[NDArray[np.float32] | None] = [None] * len(batch)
        if read is not None:
            likelihoods = decoder.score(read, [pool.rows for pool in pools])
        return [
            Candidates(
                pool.basis, pool.rows, pool.values, pool.shares, pool.length, pool.evidence, pool.alone, pool.taste,
                likelihood, proposal.found, proposal.texts,
            )
            for pool, likelihood, proposal in zip(pools, likelihoods, proposals, strict=True)
        ]  # fmt: skip

    def _pools(
        self,
        batch: HistoryBatch,
        found: Sequence[IntArray],
        excluded: Sequence[IntArray],
        most: int,
        each: int,
    ) -> list[Pool]:
        """Return each user's candidates without the model's scores, given the items that it found."""
        said = {user: history.taste for user, history in enumerate(batch) if history.taste}
        alike = self.taste_reader().similarities(list(said.values())) if said else ()
        tastes: dict[int, FloatArray] = dict(zip(said, alike, strict=True))
        values = np.stack([signal.score(batch) for signal in self.signals.values()], axis=2)
        leading = self._summed(values)
        for user, history in enumerate(batch):
            if history.basis == "taste":
                values[user, :, self._column("similarity")] = tastes[user]
            leading[user] = self._without_model(history.basis, leading[user], tastes.get(user), values[user])
            leading[user, excluded[user]] = -np.inf
        best = top_rows(leading, min(max(most, CONSIDERED), len(self.catalog)), self.order)
        pools = []
        for user, history in enumerate(batch):
            basis, own, length = history.basis, values[user], len(history.items)
            shares, taste = shares_of(own), tastes.get(user)
            if basis == "items":
                parts = [self._best(best[user], own, shares, length, most)]
                if each:
                    parts += self._tops(own.T, excluded[user], each)
                parts.append(found[user])
                if taste is not None:
                    parts += self._tops(taste[None], excluded[user], most)
                rows = _distinct(parts)
            else:
                # All are near the taste, or popular; the model orders them, but adds none.
                rows = _distinct([best[user][:most]])
            evidence = self._evidence(own[rows], shares[rows], length)
            near = None if taste is None else taste[rows]
            alone = self._without_model(basis, evidence, near, own[rows])
            pools.append(Pool(basis, rows, own[rows], shares[rows], length, evidence, alone, near))
        return pools

    def _without_model(
        self, basis: Basis, evidence: FloatArray, taste: FloatArray | None, values: FloatArray
    ) -> FloatArray:
        """Return by what a user's items are ordered where the model says nothing, shape (items,).

        An empty history leaves popularity alone, whose fitted weight beside the others may be negative: so the
        evidence does not count there.
        """
        if basis == "items":
            return evidence
        if basis == "taste" and taste is not None:
            return taste
        return values[:, self._column("popularity")]

    def _tops(self, scores: FloatArray, excluded: IntArray, most: int) -> list[IntArray]:
        """Return the best rows by each of some scores, shape (scores, items), without those that must not come back."""
        scores = np.array(scores, order="C")
        scores[:, excluded] = -np.inf
        return list(top_rows(scores, min(most, len(self.catalog)), self.order))

    def _best(self, rows: IntArray, values: FloatArray, shares: FloatArray, length: int, most: int) -> IntArray:
        """Return the best of the rows that the weighted sum put up, once the forest has looked at them."""
        rows = rows[rows != NO_ITEM]
        evidence = self._evidence(values[rows], shares[rows], length)
        return rows[np.lexsort((self.order[rows], -evidence))[:most]]

    def _evidence(self, values: FloatArray, shares: FloatArray, length: int) -> FloatArray:
        if self.fusion is None:
            return self._summed(values)
        return self.fusion.evidence(values, shares, length)

    def _summed(self, values: FloatArray) -> FloatArray:
        """Return the weighted sum of the signals' levels, shape (..., items); equal weights where none is fitted.

        Raises:
            ConfigError: signals have come or gone since the weights were fitted.
        """
        if self.fusion is None:
            even: FloatArray = log_levels(values, None).sum(axis=-1)
            return even
        if self.fusion.signals != tuple(self.signals):
            raise ConfigError(
                [
                    f"the weights were fitted for {', '.join(self.fusion.signals)}, and there are "
                    f"{', '.join(self.signals)}; fit them again with genrec.runs.tuning.tune_fusion"
                ]
            )
        return self.fusion.linear(values)

    def _column(self, signal: str) -> int:
        return list(self.signals).index(signal)


def _distinct(parts: Sequence[IntArray]) -> IntArray:
    """Return the rows of all parts in their order, each once."""
    rows = np.concatenate(parts)
    rows = rows[np.sort(np.unique(rows, return_index=True)[1])]
    kept: IntArray = rows[rows != NO_ITEM]
    return kept
