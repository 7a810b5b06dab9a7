"""The choice of the way to rank that is served, by the rules of `genrec.ranking.proof`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from genrec.ranking.proof import Gains, Paired, errors_for, paired

SIGNALS, MODEL = "the weighted sum of signals", "the language model alone"
FOREST = {
    0.25: "the sum and a quarter of what a forest is worth",
    0.5: "the sum and half of what a forest is worth",
    1.0: "the sum and a forest",
}
WITH_MODEL = {
    0.25: "with a quarter of what the language model is worth",
    0.5: "with half of what the language model is worth",
    1.0: "with the language model",
}
MODEL_FOREST = "with a forest that reads the language model"


def choose(gains: Mapping[str, Gains], used: str) -> str:
    """Return the way to rank that is served, by the rules of `genrec.ranking.proof`.

    Args:
        gains: each way's gains on the same cases.
        used: the way that is served without the language model.
    """
    best = used
    weighed = {share: name for share, name in WITH_MODEL.items() if name in gains}  # none where its weight is 0
    if weighed:
        share, found = surest(gains, weighed, gains[used])
        if found.proves:
            best = weighed[share]
    if MODEL_FOREST in gains and paired(gains[MODEL_FOREST], gains[best]).proves:
        best = MODEL_FOREST
    return overtaken(gains, gains[best]) or best


def surest(gains: Mapping[str, Gains], ways: Mapping[float, str], over: Gains) -> tuple[float, Paired]:
    """Return the share with the highest gain over `over` minus its standard error, and that gain."""
    found = {share: paired(gains[name], over) for share, name in ways.items()}
    share = max(found, key=lambda one: found[one].gain - found[one].error)
    return share, found[share]


def overtaken(gains: Mapping[str, Gains], served: Gains) -> str | None:
    """Return the simpler way that beats the served list significantly; of several, the most significant; else None."""
    simpler = {
        name: paired(own, served) for name, own in gains.items() if name not in (*WITH_MODEL.values(), MODEL_FOREST)
    }
    best = max(simpler, key=lambda name: simpler[name].size, default=None)
    return best if best is not None and simpler[best].size > errors_for(len(simpler)) else None


def gate_of(gains: Mapping[str, Gains], used: str) -> str | None:
    """Return the simpler way that beats the chosen one, if any; the choice is cross-fitted.

    Each half of the cases is ranked by the way chosen on the other half, so no case influences its own gain.
    """
    size = len(gains[used])
    half = np.random.default_rng(0).permutation(size) % 2
    served = np.zeros(size)
    for side in (0, 1):
        choice = choose({name: own[half != side] for name, own in gains.items()}, used)
        served[half == side] = gains[choice][half == side]
    return overtaken(gains, served)
