"""The ranker: it makes a list from one user's candidates, by the fitted weights and the re-ranking settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from genrec.data.catalog import Catalog
from genrec.data.rows import IntArray
from genrec.data.splits import Basis
from genrec.explain.writer import Explanation
from genrec.ranking.candidates import Candidates
from genrec.ranking.fusion import Fusion, fuse_reciprocal_ranks
from genrec.ranking.reranking import ItemFacts, rerank
from genrec.ranking.waterfall import MODEL, SIGNALS, TASTE, Parts, parts_of_scores, waterfalls
from genrec.recommendation import How, Recommendation, Recommendations
from genrec.settings import Settings
from genrec.taste.reading import Heard

_BY_OTHERS: dict[Basis, How] = {"items": "collaborative", "taste": "taste", "nothing": "popularity"}
"""The way in which an item that the model did not find came to be recommended."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """One user's list, and the lists of its parts as item ids; best first.

    Attributes:
        recommendations: the fused list.
        model_alone: the language model's own list.
        without_model: the list of the other signals.
        explanations: each recommendation's explanation, with its cited items and its writer; empty by default.
        heard: what was understood of the user's taste; nothing without a taste.
    """

    recommendations: list[Recommendation]
    model_alone: list[str]
    without_model: list[str]
    explanations: list[Explanation] = field(default_factory=list)
    heard: Heard = field(default_factory=Heard)

    def listed(self) -> Recommendations:
        """Return the list as the API gives it, with what was understood of a taste."""
        return Recommendations(self.recommendations, self.heard.understood, self.heard.let_go)

    def explained(self, explanations: list[Explanation]) -> Ranked:
        """Return the list with an explanation for each recommendation; unchanged if there are none."""
        if not explanations:
            return self
        told = [
            replace(entry, explanation=explanation.text)
            for entry, explanation in zip(self.recommendations, explanations, strict=True)
        ]
        return replace(self, recommendations=told, explanations=explanations)


@dataclass(frozen=True, slots=True)
class Ranker:
    """Fuses one user's signals, re-ranks on request, and returns the recommendations.

    Attributes:
        catalog: the items.
        signals: the signals' names, in the order of `Candidates.values`.
        fusion: the fitted weights; None if none were fitted; then lists are fused by reciprocal ranks.
        order: the order of tied items; see `genrec.data.rows.tie_order`.
        facts: returns the items' data for re-ranking; called only if re-ranking is requested.
    """

    catalog: Catalog
    signals: Sequence[str]
    fusion: Fusion | None
    order: IntArray
    facts: Callable[[], ItemFacts]

    def rank(self, own: Candidates, taken: IntArray, settings: Settings) -> Ranked:
        """Return a user's list.

        Args:
            own: the user's candidates.
            taken: int64; the rows of the user's history.
            settings: how to recommend.
        """
        scores = self._scores(own)
        # What meets even the constraints that a taste states and that were released leads, whatever its score.
        leads = np.isin(own.rows, own.heard.first)
        places = self._sorted(own.rows, scores)
        places = _leading(places, leads)[: settings.reranking.candidates(settings.k)]
        if settings.reranking.asked:
            chosen = rerank(own.rows[places], scores[places], settings.k, settings.reranking, self.facts(), taken)
            places = _leading(places[chosen], leads)
        taken_before = set(taken.tolist())
        falls = waterfalls(self._parts(own), places.tolist()) if settings.waterfall else [None] * len(places)
        recommendations = []
        for rank, place in enumerate(places.tolist(), start=1):
            row = int(own.rows[place])
            how, text = own.texts.get(row, ("again" if row in taken_before else _BY_OTHERS[own.basis], ""))
            likelihood = None if own.likelihoods is None else float(own.likelihoods[place])
            signals = {"lm": likelihood, **dict(zip(self.signals, own.values[place].tolist(), strict=True))}
            item = self.catalog.items[row]
            score, fall = float(scores[place]), falls[rank - 1]
            recommendations.append(Recommendation(rank, item, score, signals, how, text, waterfall=fall))
        ids, by_signals = self.catalog.ids, self._sorted(own.rows, own.alone)
        return Ranked(
            recommendations,
            [ids[row] for row in own.found.rows[: settings.k]],
            [ids[row] for row in own.rows[by_signals[: settings.k]]],
            heard=own.heard,
        )

    def _scores(self, own: Candidates) -> NDArray[np.float32]:
        """Return the fused scores, shape (candidates,)."""
        scores = self._with_model(own)
        if own.taste is None:
            return scores
        # No validation case has a taste, so no weight could be fitted for it.
        return self._fused(own.rows, list(self._lists(own).values()))

    def _with_model(self, own: Candidates) -> NDArray[np.float32]:
        """Return the scores from the signals and the language model, without a taste, shape (candidates,)."""
        if own.basis == "taste":
            return own.values[:, list(self.signals).index("popularity")] if own.likelihoods is None else own.likelihoods
        if own.likelihoods is None:
            return own.alone
        if self.fusion is not None:
            scores = self.fusion.with_model(own.alone, own.values, own.shares, own.length, own.likelihoods)
            if self.fusion.new_items is None:
                return scores
            return self.fusion.new_items.applied(scores, own.likelihoods, own.new)
        return self._fused(own.rows, list(self._lists(own, taste=False).values()))

    def _lists(self, own: Candidates, *, taste: bool = True) -> dict[str, IntArray]:
        """Return the lists whose reciprocal ranks are summed, by their source; none if scores are another sum.

        Args:
            own: the user's candidates.
            taste: whether a given taste is included.
        """
        if taste and own.taste is not None:
            known = MODEL if own.basis == "taste" and own.likelihoods is not None else SIGNALS
            parts = {TASTE: own.taste, known: self._with_model(own)}
            return {name: own.rows[self._sorted(own.rows, part)] for name, part in parts.items()}
        if own.likelihoods is not None and self.fusion is None:
            return {MODEL: own.found.rows, SIGNALS: own.rows[self._sorted(own.rows, own.alone)]}
        return {}

    def _parts(self, own: Candidates) -> Parts:
        """Return the parts of the scores."""
        lists = {name: rows.tolist() for name, rows in self._lists(own).items()}
        return parts_of_scores(own, self.signals, self.fusion, lists)

    def _sorted(self, rows: IntArray, scores: NDArray[np.float32]) -> IntArray:
        """Return places by score, the best first."""
        return np.lexsort((self.order[rows], -scores))

    @staticmethod
    def _fused(rows: IntArray, lists: Sequence[IntArray]) -> NDArray[np.float32]:
        """Return the rows' scores: the sums of their reciprocal ranks in the lists."""
        fused = dict(fuse_reciprocal_ranks([one.tolist() for one in lists]))
        return np.array([fused[row] for row in rows.tolist()], np.float32)


def _leading(places: IntArray, leads: NDArray[np.bool_]) -> IntArray:
    """Return the places with those that lead before the others, each in their order."""
    ordered: IntArray = places[np.argsort(~leads[places], kind="stable")]
    return ordered
