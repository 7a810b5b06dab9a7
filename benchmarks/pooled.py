"""The fused signals without a language model, for benchmarks that need no run: weights fitted on validation cases."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from genrec.baselines.search import sample_cases  # noqa: E402
from genrec.data.catalog import Catalog  # noqa: E402
from genrec.data.prepared import PreparedData  # noqa: E402
from genrec.data.rows import tie_order, top_rows  # noqa: E402
from genrec.data.splits import Case, History  # noqa: E402
from genrec.ranking.candidates import CONSIDERED  # noqa: E402
from genrec.ranking.cases import FOLDS, FitCase, Table  # noqa: E402
from genrec.ranking.forest import shares_of  # noqa: E402
from genrec.ranking.fusion import Fusion, log_levels  # noqa: E402
from genrec.ranking.without_model import fit_signals_fusion  # noqa: E402
from genrec.runs.tuning import CANDIDATES_ALONE, CASES_ALONE  # noqa: E402
from genrec.signals.simple import Signal  # noqa: E402
from retrieval.encoders import load_encoder  # noqa: E402

BLOCK = 128


@dataclass
class Pool:
    """Signals and their fitted fusion, as one signal: what genrec ranks by where no model is asked."""

    name: ClassVar[str] = "genrec-without-lm"
    signals: Mapping[str, Signal]
    fusion: Fusion
    catalog: Catalog

    def score(self, histories: Sequence[History]) -> NDArray[np.float32]:
        """Return the evidence for the items that the weighted sum puts first, shape (histories, items).

        The others stand below them in the order of the sum, as they would never be candidates.
        """
        values, order = values_of(self.signals, histories), tie_order(len(self.catalog), 0)
        scores = self.fusion.linear(values)
        open_scores = scores.copy()
        for user, history in enumerate(histories):
            open_scores[user, self.catalog.rows(history.items)] = -np.inf
        best = top_rows(open_scores, min(CONSIDERED, len(self.catalog)), order)
        for user, history in enumerate(histories):
            rows = best[user][best[user] >= 0]
            evidence = self.fusion.evidence(values[user, rows], shares_of(values[user])[rows], len(history.items))
            scores[user] -= scores[user].max() - evidence.min() + 1
            scores[user, rows] = evidence
        return scores


def values_of(signals: Mapping[str, Signal], histories: Sequence[History]) -> NDArray[np.float32]:
    """Return what signals say, shape (histories, items, signals)."""
    return np.stack([signal.score(histories) for signal in signals.values()], axis=2)


def fit_pool(signals: Mapping[str, Signal], catalog: Catalog, valid: Sequence[Case], seed: int) -> Pool:
    """Fit the weights as `genrec.runs.tuning` does in its first step: on the candidates of equal weights."""
    order = tie_order(len(catalog), 0)
    told: list[FitCase] = []
    cases = [case for case in sample_cases(valid, CASES_ALONE, seed) if case.history.items]
    for start in range(0, len(cases), BLOCK):
        block = cases[start : start + BLOCK]
        values = values_of(signals, [case.history for case in block])
        together = log_levels(values, None).sum(axis=2)
        for user, case in enumerate(block):
            together[user, catalog.rows(case.history.items)] = -np.inf
        best = top_rows(together, min(CANDIDATES_ALONE, len(catalog)), order)
        for user, case in enumerate(block):
            rows = best[user][best[user] >= 0]
            (place,) = np.nonzero(rows == catalog.row(case.target))
            target = int(place[0]) if len(place) else None
            shares = shares_of(values[user])[rows]
            told.append(FitCase(values[user, rows], shares, len(case.history.items), target, len(told) % FOLDS))
    return Pool(signals, fit_signals_fusion(tuple(signals), Table(told), 10, seed).fusion, catalog)


def title_vectors(data: PreparedData, cache: Path) -> NDArray[np.float32]:
    """Return the titles' vectors, made once."""
    if not cache.exists():
        cache.parent.mkdir(parents=True, exist_ok=True)
        np.save(cache, load_encoder("starter").encode([item.title for item in data.catalog]))
    vectors: NDArray[np.float32] = np.load(cache, allow_pickle=False)
    return vectors
