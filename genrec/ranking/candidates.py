"""Candidates: the items from which one user's list is chosen, with all their evidence.

Candidates come from the language model and from the best items by the weighted sum of the other signals. Each signal
also adds its own best items if that helped in the fit. Every candidate gets the value of every signal and the model's
exact log-likelihood.

Users differ in the data that is known about them (`History.basis`). Only this module treats them differently: see
`CandidateMaker._pools` and `CandidateMaker._without_model`.

Prompts of similar length are read together, so users are processed in another order. The result is in the order of the
batch.
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
from genrec.taste.reading import Heard, TasteWords

CONSIDERED = 200
"""The number of best items by the weighted sum from which the forest chooses the candidates."""


NEW_ITEMS = 10
"""The number of new items that the language model adds to the candidates, if there are any; more for longer lists."""


@dataclass(frozen=True, slots=True)
class Pool:
    """One user's candidates with their signals, without the language model.

    Attributes:
        basis: the data that is known about the user.
        rows: int64 [candidates]; item rows.
        values: float32 [candidates, signals]; the value of each signal, unchanged.
        shares: float32 [candidates, signals]; the values as shares of the signal's values for the whole catalogue.
        length: the number of items in the history.
        evidence: float32 [candidates]; the score from all signals, under the fitted weights.
        alone: float32 [candidates]; the scores without the language model: the evidence; the similarity to the taste
            if only the taste is known; the popularity if nothing is known.
        taste: float32 [candidates]; similarities to the user's taste; None without a taste.
        new: bool [candidates]; whether the item came after training, so that nobody took it.
        heard: what was understood of the user's taste; nothing without a taste.
    """

    basis: Basis
    rows: IntArray
    values: FloatArray
    shares: FloatArray
    length: int
    evidence: FloatArray
    alone: FloatArray
    taste: FloatArray | None
    new: NDArray[np.bool_]
    heard: Heard


@dataclass(frozen=True, slots=True)
class Candidates(Pool):
    """The items from which one user's list is chosen: the pool, and the language model's results.

    Attributes:
        likelihoods: float32 [candidates]; the model's log-likelihoods; None if it was not asked.
        found: the items that the language model found by itself.
        texts: for each item that the model found, the way it was found and the text that the model wrote.
    """

    likelihoods: NDArray[np.float32] | None
    found: Found
    texts: Mapping[int, tuple[How, str]]


@dataclass(frozen=True, slots=True)
class CandidateMaker:
    """Makes each user's candidates from the signals, the language model and the fitted weights.

    Attributes:
        catalog: the items.
        signals: all signals except the language model, by name, in the order of features; "similarity" and
            "popularity" are among them.
        fusion: the fitted weights; None if none were fitted.
        order: the order of tied items; see `genrec.data.rows.tie_order`.
        proposer: asks the language model.
        filtered_out: the items that a call's filters exclude for all users.
        taste_reader: returns the object that compares tastes with items; called only if a taste is given.
        taste_words: reads the constraints that a taste states.
        keep_seen: whether the run was trained for lists with items of the history.
        new: the rows of items that came after training.
    """

    catalog: Catalog
    signals: Mapping[str, Signal]
    fusion: Fusion | None
    order: IntArray
    proposer: Proposer
    filtered_out: FilteredOut
    taste_reader: Callable[[], TasteReader]
    taste_words: TasteWords
    keep_seen: bool
    new: IntArray

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
            batch: the users' histories.
            settings: how to recommend.
            count: the number of candidates from all signals together, raised to at least twice the length of the list;
                the fitted number by default. The language model's items are added.
            ask_model: whether the language model is asked.
            each: the number of candidates that each signal adds by itself; the fitted number by default.

        Raises:
            ConfigError: the filters name a value that no item has, or no item passes them; or the signals differ from
                those for which the weights were fitted.
        """
        closed = self.filtered_out.rows(settings.filters)
        taken = [batch.rows_of(user) for user in range(len(batch))]
        hides = settings.excludes_seen(self.keep_seen)
        excluded = [np.union1d(closed, rows) if hides else closed for rows in taken]
        heard = [Heard()] * len(batch)
        for user, history in enumerate(batch):
            if history.taste:
                heard[user], excluded[user] = self.taste_words.hear(history.taste, excluded[user], settings.k)
        if count is None:
            count = self.fusion.together if self.fusion else CANDIDATES
        if each is None:
            each = self.fusion.each if self.fusion else 0
        most = max(count, 2 * settings.k, settings.reranking.candidates(settings.k))
        made: dict[int, Candidates] = {}
        for users, prompts in self._stretches(batch, settings.batch_size, ask_model):
            own = [excluded[user] for user in users]
            said = [heard[user] for user in users]
            found = self._make(batch.take(users), prompts, own, said, settings, most, each)
            made |= dict(zip(users, found, strict=True))
        return [made[user] for user in range(len(batch))]

    def _stretches(
        self, batch: HistoryBatch, batch_size: int, ask_model: bool
    ) -> Iterator[tuple[list[int], list[tuple[int, ...]]]]:
        """Yield users and their prompts, grouped by length; no prompts if the model is not asked."""
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
        heard: Sequence[Heard],
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
        found = [proposal.found.rows for proposal in proposals]
        if read is not None and len(self.new):
            # Beside all known items, few new ones are found; the fitted score of new items decides among them.
            fresh = decoder.best_of(read, self.new, max(settings.k, NEW_ITEMS))
            found = [
                np.concatenate((own, np.setdiff1d(more, gone)))
                for own, more, gone in zip(found, fresh, excluded, strict=True)
            ]
        pools = self._pools(batch, found, excluded, heard, most, each)
        likelihoods: Sequence[NDArray[np.float32] | None] = [None] * len(batch)
        if read is not None:
            likelihoods = decoder.score(read, [pool.rows for pool in pools])
        return [
            Candidates(
                pool.basis, pool.rows, pool.values, pool.shares, pool.length, pool.evidence, pool.alone, pool.taste,
                pool.new, pool.heard, likelihood, proposal.found, proposal.texts,
            )
            for pool, likelihood, proposal in zip(pools, likelihoods, proposals, strict=True)
        ]  # fmt: skip

    def _pools(
        self,
        batch: HistoryBatch,
        found: Sequence[IntArray],
        excluded: Sequence[IntArray],
        heard: Sequence[Heard],
        most: int,
        each: int,
    ) -> list[Pool]:
        """Return each user's candidates without the model's scores; the items that the model found are included."""
        said = {user: heard[user].compared for user, history in enumerate(batch) if history.taste}
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
                # The candidates are the nearest to the taste, or the most popular; the model orders them but adds none.
                rows = _distinct([best[user][:most]])
            rows = _distinct([np.array(heard[user].first, np.int64), rows])
            evidence = self._evidence(own[rows], shares[rows], length)
            near = None if taste is None else taste[rows]
            alone = self._without_model(basis, evidence, near, own[rows])
            new = np.isin(rows, self.new)
            pools.append(Pool(basis, rows, own[rows], shares[rows], length, evidence, alone, near, new, heard[user]))
        return pools

    def _without_model(
        self, basis: Basis, evidence: FloatArray, taste: FloatArray | None, values: FloatArray
    ) -> FloatArray:
        """Return the scores that order a user's items without the model, shape (items,).

        For an empty history only popularity is known. Its fitted weight may be negative, because it was fitted together
        with the other signals. The evidence is therefore not used there.
        """
        if basis == "items":
            return evidence
        if basis == "taste" and taste is not None:
            return taste
        return values[:, self._column("popularity")]

    def _tops(self, scores: FloatArray, excluded: IntArray, most: int) -> list[IntArray]:
        """Return the best rows by each of the scores, shape (scores, items), without the excluded rows."""
        scores = np.array(scores, order="C")
        scores[:, excluded] = -np.inf
        return list(top_rows(scores, min(most, len(self.catalog)), self.order))

    def _best(self, rows: IntArray, values: FloatArray, shares: FloatArray, length: int, most: int) -> IntArray:
        """Return the best of the rows chosen by the weighted sum, ordered by the evidence with the forest."""
        rows = rows[rows != NO_ITEM]
        evidence = self._evidence(values[rows], shares[rows], length)
        return rows[np.lexsort((self.order[rows], -evidence))[:most]]

    def _evidence(self, values: FloatArray, shares: FloatArray, length: int) -> FloatArray:
        if self.fusion is None:
            return self._summed(values)
        return self.fusion.evidence(values, shares, length)

    def _summed(self, values: FloatArray) -> FloatArray:
        """Return the weighted sum of the signals' levels, shape (..., items); with equal weights if none are fitted.

        Raises:
            ConfigError: the signals differ from those for which the weights were fitted.
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
    """Return the rows of all parts in their order, without duplicates."""
    rows = np.concatenate(parts)
    rows = rows[np.sort(np.unique(rows, return_index=True)[1])]
    kept: IntArray = rows[rows != NO_ITEM]
    return kept
