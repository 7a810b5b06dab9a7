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

from genrec.baselines import sample_cases  # noqa: E402
from genrec.catalog import Catalog  # noqa: E402
from genrec.interactions import PreparedData  # noqa: E402
from genrec.metrics import tie_order, top_rows  # noqa: E402
from genrec.ranking import fit_weights, log_levels, mean_positive  # noqa: E402
from genrec.signals import Signal  # noqa: E402
from genrec.splits import Case, History  # noqa: E402
from retrieval.encoders import load_encoder  # noqa: E402

CASES, CANDIDATES, BLOCK = 4000, 200, 128


@dataclass
class Pool:
    """Signals and the weights of their levels, as one signal: what genrec ranks by where no model is asked."""

    name: ClassVar[str] = "genrec-without-lm"
    signals: Mapping[str, Signal]
    scales: Sequence[float]
    weights: Sequence[float]

    def score(self, histories: Sequence[History]) -> NDArray[np.float32]:
        """Return the weighted sums, shape (histories, items)."""
        return log_levels(values_of(self.signals, histories), self.scales) @ np.array(self.weights, np.float32)


def values_of(signals: Mapping[str, Signal], histories: Sequence[History]) -> NDArray[np.float32]:
    """Return what signals say, shape (histories, items, signals)."""
    return np.stack([signal.score(histories) for signal in signals.values()], axis=2)


def fit_pool(signals: Mapping[str, Signal], catalog: Catalog, valid: Sequence[Case], seed: int) -> Pool:
    """Fit the weights as `genrec.tuning` does in its first step: on the candidates of equal weights."""
    order, found, targets = tie_order(len(catalog), 0), [], []
    cases = [case for case in sample_cases(valid, CASES, seed) if case.history.items]
    for start in range(0, len(cases), BLOCK):
        block = cases[start : start + BLOCK]
        values = values_of(signals, [case.history for case in block])
        together = log_levels(values, None).sum(axis=2)
        for user, case in enumerate(block):
            together[user, catalog.rows(case.history.items)] = -np.inf
        best = top_rows(together, min(CANDIDATES, len(catalog)), order)
        for user, case in enumerate(block):
            rows = best[user][best[user] >= 0]
            if catalog.row(case.target) in rows:
                found.append(values[user, rows])
                targets.append(rows.tolist().index(catalog.row(case.target)))
    scales = mean_positive(np.concatenate(found), axis=0)[0].tolist()
    return Pool(signals, scales, fit_weights([log_levels(values, scales) for values in found], targets))


def title_vectors(data: PreparedData, cache: Path) -> NDArray[np.float32]:
    """Return the titles' vectors, made once."""
    if not cache.exists():
        cache.parent.mkdir(parents=True, exist_ok=True)
        np.save(cache, load_encoder("starter").encode([item.title for item in data.catalog]))
    vectors: NDArray[np.float32] = np.load(cache, allow_pickle=False)
    return vectors
