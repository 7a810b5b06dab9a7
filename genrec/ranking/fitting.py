"""What a list is made of: every weight by likelihood, every part by what it earns on cases that it has not seen.

Cases are divided into `FOLDS`. For each fold all is fitted without it (the sum, the forest, how much they and the
language model count) and judged on it, so that every case has a list from a fit that does not know it. Weights are
those under which the taken items are likeliest (conditional logit): smooth in the weights, so that there is no grid
with an edge, and far steadier on few cases than the best of a list of figures. What is used at all is decided by NDCG@k
of lists, misses included, under the rules of `genrec.ranking.proof`.

Sources: Wolpert, "Stacked generalization", Neural Networks 5(2), 1992; Breiman, "Stacked regressions", Machine Learning
24, 1996 (weights of parts fitted on what each says of cases it was not fitted on).

The easy mistake is to let a fit choose the candidates of a case that it knows: its forest puts the right item among
them, and whatever is asked next finds an item there that it would not have been shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from genrec.errors import DataError
from genrec.ranking.forest import ENOUGH_CASES, fit_forest, forest_features, forest_scores, model_features
from genrec.ranking.fusion import CANDIDATES, Fusion, log_levels, mean_positive
from genrec.ranking.proof import Compared, Gains, Paired, Proof, paired
from genrec.signals.arrays import FloatArray

FOLDS = 5

RIDGE = 1e-3
"""Weight of the squared weights against a case's mean loss in nats; keeps a few hundred cases from saying too much."""

TRIED_TOGETHER = 100
TRIED_EACH = 20
"""Most candidates that the signals together, and each by itself, put up while it is found out how many are worth it."""

SHRUNK = (0.25, 0.5, 1.0)
"""Shares of a part's likeliest weight that are tried. A part that is not sure to help at its whole weight may well be
sure at a quarter of it, where the difference is smaller and its error much smaller."""

LEAST = 0.01
"""What the first of two parts counts at least, where the second counts 1."""

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


@dataclass(frozen=True, slots=True)
class FitCase:
    """A validation case with its candidates.

    Attributes:
        values: what the signals say of its candidates, shape (candidates, signals).
        shares: the same as shares of the whole catalogue's.
        length: how many items its history has.
        target: which candidate was taken; None where it is not among them, which makes the case a miss.
        fold: the fold that its own list must not be fitted on.
        likelihoods: the model's log-likelihoods, shape (candidates,); None where it was not asked.
        found: whether the model found the candidate by itself, bool [candidates].
    """

    values: FloatArray
    shares: FloatArray
    length: int
    target: int | None
    fold: int
    likelihoods: NDArray[np.float32] | None = None
    found: NDArray[np.bool_] | None = None


@dataclass(slots=True)
class Table:
    """Cases with their candidates, one behind the other, so that all are scored at once."""

    cases: Sequence[FitCase]
    starts: NDArray[np.int64] = field(init=False)
    case: NDArray[np.int64] = field(init=False)
    fold: NDArray[np.int64] = field(init=False)
    target: NDArray[np.int64] = field(init=False)
    values: FloatArray = field(init=False)
    features: FloatArray = field(init=False)

    def __post_init__(self) -> None:
        sizes = np.array([len(case.values) for case in self.cases])
        self.starts = np.cumsum(sizes) - sizes
        self.case = np.repeat(np.arange(len(sizes)), sizes)
        self.fold = np.array([case.fold for case in self.cases])
        # Where there is none, a place that no comparison ever uses.
        self.target = np.array(
            [
                -1 if case.target is None else start + case.target
                for case, start in zip(self.cases, self.starts, strict=True)
            ]
        )
        self.values = np.concatenate([case.values for case in self.cases])
        self.features = np.concatenate([forest_features(case.shares, case.length) for case in self.cases])

    @property
    def found(self) -> NDArray[np.int64]:
        """The cases whose item is among the candidates."""
        return np.flatnonzero(self.target >= 0)

    def gains(self, scores: NDArray[np.floating], k: int, among: NDArray[np.bool_] | None = None) -> Gains:
        """Return each case's NDCG@k; equal scores count against the item that was taken, and a miss is 0.

        Args:
            scores: shape (rows,).
            k: the length of the list.
            among: which rows are candidates; all where left out.
        """
        asked = self.target >= 0
        if among is not None:
            asked &= among[self.target]
        own = np.where(asked, scores[self.target], np.inf)
        above = scores >= own[self.case]
        if among is not None:
            above &= among
        ranks = np.maximum(np.add.reduceat(above.astype(np.int64), self.starts), 1)
        return np.where(asked & (ranks <= k), 1 / np.log2(ranks + 1), 0.0)

    def places(self, scores: NDArray[np.floating]) -> NDArray[np.int64]:
        """Return each row's place among its case's candidates, from 0, best first."""
        order = np.lexsort((-scores, self.case))
        places = np.empty(len(scores), np.int64)
        places[order] = np.arange(len(scores)) - self.starts[self.case[order]]
        return places


def fit_weights(
    columns: NDArray[np.floating], table: Table, cases: NDArray[np.int64], among: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fit the weights under which the taken item is most likely among each case's candidates.

    Minimises mean over cases of -log(exp(w.x(target)) / sum over candidates of exp(w.x)) + ridge * |w|^2, which is
    convex: there is one answer, and it does not depend on a seed. Found by Newton's method.

    Args:
        columns: shape (rows, columns): what the weights are for.
        table: the cases.
        cases: which of them are fitted on; those without a target among the candidates say nothing.
        among: which rows are candidates; all where left out.

    Returns:
        The weights, and their standard errors.

    Raises:
        DataError: there is no case.
    """
    chosen = np.zeros(len(table.cases), np.bool_)
    chosen[cases] = True
    chosen &= table.target >= 0
    if among is not None:
        chosen &= among[table.target]
    if not chosen.any():
        raise DataError("there is no validation case whose item is among the candidates, so no weights can be fitted")
    kept = chosen[table.case] if among is None else chosen[table.case] & among
    rows = columns[kept].astype(np.float64)
    sizes = np.bincount(table.case[kept], minlength=len(chosen))[chosen]
    starts = np.cumsum(sizes) - sizes
    number = np.repeat(np.arange(len(sizes)), sizes)
    taken = columns[table.target[chosen]].astype(np.float64)
    weights = np.zeros(rows.shape[1])

    def look(at: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        scores = rows @ at
        top = np.maximum.reduceat(scores, starts)
        parts = np.exp(scores - top[number])
        totals = np.add.reduceat(parts, starts)
        value = float((np.log(totals) + top - taken @ at).mean() + RIDGE * at @ at)
        return value, parts / totals[number]

    value, odds = look(weights)
    curve = np.eye(rows.shape[1])
    for _ in range(50):
        expected = np.add.reduceat(rows * odds[:, None], starts)
        slope = (expected - taken).mean(axis=0) + 2 * RIDGE * weights
        spread = (rows * odds[:, None]).T @ rows - expected.T @ expected
        curve = spread / len(sizes) + 2 * RIDGE * np.eye(rows.shape[1])
        step = np.linalg.solve(curve, slope)
        scale = 1.0
        while True:
            there, new_odds = look(weights - scale * step)
            if there <= value + 1e-12 or scale < 1e-6:
                break
            scale /= 2
        weights, odds, gained, value = weights - scale * step, new_odds, value - there, there
        if gained < 1e-10:
            break
    errors = np.sqrt(np.diag(np.linalg.inv(curve)) / len(sizes))
    return weights, errors


def fit_sum(signals: Sequence[str], table: Table, cases: NDArray[np.int64]) -> Fusion:
    """Fit the weighted sum of signals; one that is not a standard error away from 0 is not used.

    Raises:
        DataError: there is no case.
    """
    inside = np.isin(table.case, cases)
    scales = tuple(float(scale) for scale in mean_positive(table.values[inside], axis=0)[0])
    levels = log_levels(table.values, scales)
    used = list(range(len(signals)))
    while True:
        weights, errors = fit_weights(levels[:, used], table, cases)
        sizes = np.abs(weights) / errors
        if sizes.min() >= 1 or len(used) == 1:
            break
        # One after another: of two that say the same, each alone is not needed, and one of them is.
        del used[int(sizes.argmin())]
    whole = np.zeros(len(signals))
    whole[used] = weights
    count = int(np.isin(table.found, cases).sum())
    return Fusion(tuple(signals), scales, tuple(round(float(weight), 6) for weight in whole), 0.0, count, 0)


def single(fusion: Fusion, number: int) -> Fusion:
    """Return a fusion that ranks by one signal alone."""
    weights = tuple(float(place == number) for place in range(len(fusion.signals)))
    return replace(fusion, weights=weights, forest_weight=0.0, forest="")


@dataclass(slots=True)
class SignalsFit:
    """What was fitted without the language model.

    Attributes:
        fusion: fitted on all cases.
        folds: for each fold, the same fitted without its cases.
        gains: each way's gains on cases that it was not fitted on, by name.
        used: the name of the way that was chosen.
        words: why, in sentences.
    """

    fusion: Fusion
    folds: tuple[Fusion, ...]
    gains: dict[str, Gains]
    used: str
    words: list[str]


def fit_signals_fusion(signals: Sequence[str], table: Table, k: int, seed: int) -> SignalsFit:
    """Fit the sum, a forest where cases are enough, and choose between these and each signal by itself.

    Args:
        signals: their names.
        table: validation cases.
        k: the length of the lists that are compared.
        seed: of the forest.

    Raises:
        DataError: no case's item is among its candidates.
    """
    everything = np.arange(len(table.cases))
    whole = fit_sum(signals, table, everything)
    folds = tuple(_or_whole(signals, table, np.flatnonzero(table.fold != fold), whole) for fold in range(FOLDS))
    sums = _of_folds(table, [log_levels(table.values, own.scales) @ np.array(own.weights, np.float32) for own in folds])
    gains = {SIGNALS: table.gains(sums, k)}
    words, used = [], SIGNALS
    if len(table.found) >= ENOUGH_CASES:
        best = table.places(whole.linear(table.values)) < TRIED_TOGETHER
        grown = _grow(table, table.features, best, sums, k, seed)
        tried = {name: grown.gains(part) for part, name in FOREST.items()}
        part, found = _surest(tried, FOREST, gains[SIGNALS])
        if grown.share > 0 and found.proves:
            used = FOREST[part]
            text = _forest(table, table.features, best, everything, seed)
            whole = replace(whole, forest_weight=round(part * grown.share, 6), forest=text)
            folds = tuple(
                replace(own, forest_weight=part * one, forest=text)
                for own, one, text in zip(folds, grown.shares.tolist(), grown.forests, strict=True)
            )
            words.append(f"A forest of small trees is added to the sum: it earns {_told(found)} of NDCG@{k}.")
        else:
            words.append(f"A forest of small trees was tried and is left out: {_told(found)} of NDCG@{k} is no proof.")
        gains |= tried
    for number, name in enumerate(signals):
        gains[name] = table.gains(table.values[:, number], k)
    worst = min(signals, key=lambda name: paired(gains[used], gains[name]).size)
    found = paired(gains[used], gains[worst])
    if found.gain < -found.error:
        words.append(
            f"{worst.capitalize()} alone ranks better than {used} ({_told(found)}), so it is served by itself."
        )
        number = list(signals).index(worst)
        whole, folds, used = single(whole, number), tuple(single(own, number) for own in folds), worst
    return SignalsFit(whole, folds, gains, used, words)


@dataclass(slots=True)
class Grown:
    """Forests that have each not seen a fold, beside sums that have not either.

    Attributes:
        table: the cases.
        sums: each row's sum.
        k: the length of the lists that are compared.
        forests: one for each fold, as text; fewer where it was given up.
        trees: each row's score by the forest that does not know its case.
        shares: what a forest counts where the sum counts 1, by fold, fitted on the other folds.
        share: the same fitted on all; 0 where it was given up.
    """

    table: Table
    sums: NDArray[np.float32]
    k: int
    forests: list[str]
    trees: NDArray[np.float32]
    shares: NDArray[np.float32]
    share: float

    def scores(self, part: float) -> NDArray[np.float32]:
        """Return each row's score where the forest counts for a part of what it is worth."""
        scores: NDArray[np.float32] = (
            self.sums + np.float32(part) * self.shares[self.table.fold[self.table.case]] * self.trees
        )
        return scores

    def gains(self, part: float) -> Gains:
        """Return each case's gain where the forest counts for a part of what it is worth."""
        return self.table.gains(self.scores(part), self.k)


def _grow(
    table: Table, features: FloatArray, among: NDArray[np.bool_], sums: NDArray[np.float32], k: int, seed: int
) -> Grown:
    """Fit a forest without each fold; give it up after the first two where it gains nothing there, since it is slow."""
    grown = Grown(table, sums, k, [], np.zeros(len(table.case), np.float32), np.zeros(FOLDS, np.float32), 0.0)
    for fold in range(FOLDS):
        text = _forest(table, features, among, np.flatnonzero(table.fold != fold), seed)
        inside = table.fold[table.case] == fold
        grown.forests.append(text)
        grown.trees[inside] = forest_scores(text, features[inside])
        if fold == 0:
            continue
        columns = np.stack((sums, grown.trees), axis=1)
        known = [np.flatnonzero((table.fold != one) & (table.fold <= fold)) for one in range(fold + 1)]
        if all(np.isin(table.found, cases).any() for cases in known):
            grown.shares[: fold + 1] = [_relative(fit_weights(columns, table, cases)[0]) for cases in known]
        if fold == 1:
            here = table.fold <= 1
            without = table.gains(sums, k)[here]
            if max(paired(grown.gains(part)[here], without).gain for part in SHRUNK) <= 0:
                grown.shares[:] = 0.0
                return grown
    grown.share = _relative(fit_weights(columns, table, np.arange(len(table.cases)))[0])
    return grown


def _or_whole(signals: Sequence[str], table: Table, cases: NDArray[np.int64], whole: Fusion) -> Fusion:
    """Fit on some cases; where none of these has its item among the candidates, all have to do."""
    return fit_sum(signals, table, cases) if np.isin(table.found, cases).any() else whole


def _of_folds(table: Table, scores: Sequence[NDArray[np.floating]]) -> NDArray[np.float32]:
    """Return each row's score by the fit that does not know its case."""
    chosen: NDArray[np.float32] = np.stack(scores)[table.fold[table.case], np.arange(len(table.case))].astype(
        np.float32
    )
    return chosen


def _forest(table: Table, features: FloatArray, among: NDArray[np.bool_], cases: NDArray[np.int64], seed: int) -> str:
    """Fit a forest on some cases, each with its best candidates and the item that was taken."""
    kept = among.copy()
    kept[table.target[table.found]] = True
    ends = np.append(table.starts, len(table.case))
    rows, targets = [], []
    for case in np.intersect1d(table.found, cases).tolist():
        inside = kept[ends[case] : ends[case + 1]]
        rows.append(features[ends[case] : ends[case + 1]][inside])
        targets.append(int(inside[: table.target[case] - ends[case]].sum()))
    return fit_forest(rows, targets, seed)


def _surest(gains: Mapping[str, Gains], ways: Mapping[float, str], over: Gains) -> tuple[float, Paired]:
    """Return the share whose gain over others is highest when its error is taken off, and that gain."""
    found = {share: paired(gains[name], over) for share, name in ways.items()}
    share = max(found, key=lambda one: found[one].gain - found[one].error)
    return share, found[share]


def _relative(weights: NDArray[np.float64]) -> float:
    """Return what the second part counts where the first counts 1; nothing where it would count below nothing.

    The first part always counts for something, since it chooses the candidates.
    """
    second = float(max(weights[1], 0.0))
    return second / max(float(weights[0]), LEAST * second) if second > 0 else 0.0


def _told(found: Paired) -> str:
    return f"{found.gain:+.4f} (standard error {found.error:.4f})"


@dataclass(slots=True)
class ModelTable:
    """Cases on which the language model was asked, and what each way to rank gains on them."""

    fit: SignalsFit
    table: Table
    k: int
    evidence: NDArray[np.float32] = field(init=False)
    likelihoods: NDArray[np.float32] = field(init=False)

    def __post_init__(self) -> None:
        self.likelihoods = np.concatenate([_asked(case.likelihoods) for case in self.table.cases])
        self.evidence = np.zeros(len(self.table.case), np.float32)
        for fold, own in enumerate(self.fit.folds):
            inside = self.table.fold[self.table.case] == fold
            features = self.table.features[inside]
            self.evidence[inside] = own.linear(self.table.values[inside])
            if own.forest_weight:
                self.evidence[inside] += np.float32(own.forest_weight) * forest_scores(own.forest, features)

    def weights(self) -> tuple[float, NDArray[np.float32]]:
        """Return the model's likeliest weight beside the evidence, and for each row one that does not know its case."""
        columns = np.stack((self.evidence, self.likelihoods), axis=1)
        everything = np.arange(len(self.table.cases))
        weight = _relative(fit_weights(columns, self.table, everything)[0])
        own = np.full(FOLDS, weight, np.float32)
        for fold in range(FOLDS):
            others = np.flatnonzero(self.table.fold != fold)
            if np.isin(self.table.found, others).any():
                own[fold] = _relative(fit_weights(columns, self.table, others)[0])
        return weight, own[self.table.fold[self.table.case]]

    def gains(self, scores: NDArray[np.floating]) -> Gains:
        """Return each case's gain, all candidates that were tried among them."""
        return self.table.gains(scores, self.k)


def settled(fit: SignalsFit, cases: Sequence[FitCase], k: int) -> bool:
    """Say whether asking the model on more cases would change little.

    It would, as long as what the model earns is not known to a hundredth of what the list earns, unless it is known to
    be a loss.
    """
    if sum(case.target is not None for case in cases) < ENOUGH_CASES:
        return False
    asked = ModelTable(fit, Table(cases), k)
    without = asked.gains(asked.evidence)
    found = paired(asked.gains(asked.evidence + asked.weights()[1] * asked.likelihoods), without)
    return found.error < SURE * without.mean() or found.size < -3


SURE = 0.01


def fit_model(fit: SignalsFit, cases: Sequence[FitCase], seed: int, k: int, exclude_seen: bool) -> Fusion:
    """Choose what the language model counts, and pass the last gate.

    Args:
        fit: what `fit_signals_fusion` returned.
        cases: those on which the model was asked, their candidates chosen by the fold that does not know them; empty
            where it was asked on none.
        seed: of the forest.
        k: the length of the lists that are compared.
        exclude_seen: whether the candidates leave out the items of the history.
    """
    words, served = list(fit.words), fit.used
    if not any(case.target is not None for case in cases):
        words.append(
            "The language model was not asked on a case whose item is among the candidates, so it does not count."
        )
        fusion = replace(fit.fusion, k=k, exclude_seen=exclude_seen)
        return replace(fusion, proof=_proof(served, fit.gains, served, k, {}, words))
    asked = ModelTable(fit, Table(cases), k)
    table = asked.table
    weight, weights = asked.weights()
    scores = {fit.used: asked.evidence, MODEL: asked.likelihoods}
    fusions = {fit.used: fit.fusion, MODEL: replace(fit.fusion, model=1.0, others_weight=0.0)}
    for share, name in WITH_MODEL.items():
        scores[name] = asked.evidence + np.float32(share) * weights * asked.likelihoods
        fusions[name] = replace(fit.fusion, model=round(share * weight, 6))
    if len(table.found) >= ENOUGH_CASES:
        by_trees, grown = _with_model_forest(asked, seed)
        if grown.model_forest_weight:
            scores[MODEL_FOREST], fusions[MODEL_FOREST] = by_trees, grown
    gains = {name: asked.gains(own) for name, own in scores.items()}
    for number, name in enumerate(fit.fusion.signals):
        gains.setdefault(name, asked.gains(table.values[:, number]))
        fusions.setdefault(name, single(fit.fusion, number))
        scores.setdefault(name, table.values[:, number])
    chosen = choose(gains, fit.used)
    gate = _gate(gains, fit.used)
    if chosen == fit.used:
        _, found = _surest(gains, WITH_MODEL, gains[chosen])
        words.append(
            f"The language model does not count: it earns {_told(found)} of NDCG@{k} on {len(cases)} cases, "
            "which is no proof."
        )
    else:
        found = paired(gains[chosen], gains[fit.used])
        words.append(f"{chosen.capitalize()}: that earns {_told(found)} of NDCG@{k} on {len(cases)} cases.")
    if gate is not None and gate != chosen:
        found = paired(gains[chosen], gains[gate])
        words.append(
            f"The last gate: on cases that had no part in the choice, {chosen} was worse than {gate}, which is served "
            f"instead ({_told(found)})."
        )
        chosen = gate
    fusion = replace(fusions[chosen], model_cases=len(cases), k=k, exclude_seen=exclude_seen)
    together, each = _numbers(asked, scores[chosen])
    recalls = _recalls(asked, together, each)
    fusion = replace(fusion, together=together, each=each)
    name = chosen if chosen in (fit.used, MODEL) or chosen in fit.fusion.signals else f"{fit.used}, {chosen}"
    return replace(fusion, proof=_proof(name, gains, chosen, k, recalls, words))


def choose(gains: Mapping[str, Gains], used: str) -> str:
    """Return which way to rank is served, by the rules of `genrec.ranking.proof`.

    Args:
        gains: each way's gains on the same cases.
        used: the way that needs no model.
    """
    best = used
    share, found = _surest(gains, WITH_MODEL, gains[used])
    if found.proves:
        best = WITH_MODEL[share]
    if MODEL_FOREST in gains and paired(gains[MODEL_FOREST], gains[best]).proves:
        best = MODEL_FOREST
    return _overtaken(gains, gains[best]) or best


def _overtaken(gains: Mapping[str, Gains], served: Gains) -> str | None:
    """Return the simpler way that the served list is worse than by more than the error; of many, the surest."""
    simpler = {
        name: paired(served, own) for name, own in gains.items() if name not in (*WITH_MODEL.values(), MODEL_FOREST)
    }
    worse = {name: found.size for name, found in simpler.items() if found.gain < -found.error}
    return min(worse, key=worse.__getitem__) if worse else None


def _gate(gains: Mapping[str, Gains], used: str) -> str | None:
    """Return the part that beats what is chosen, where the choice is made on other cases than the comparison.

    Each half of the cases is ranked by what the other half chooses, so no case has a part in what is said of it.
    """
    size = len(gains[used])
    half = np.random.default_rng(0).permutation(size) % 2
    served = np.zeros(size)
    for side in (0, 1):
        choice = choose({name: own[half != side] for name, own in gains.items()}, used)
        served[half == side] = gains[choice][half == side]
    return _overtaken(gains, served)


def _with_model_forest(asked: ModelTable, seed: int) -> tuple[NDArray[np.float32], Fusion]:
    """Return each row's score by a sum and a forest that do not know its case, and the fusion with both."""
    table, fit = asked.table, asked.fit
    ends = np.append(table.starts, len(table.case))
    features = np.concatenate(
        [
            model_features(case.shares, case.length, asked.likelihoods[ends[place] : ends[place + 1]])
            for place, case in enumerate(table.cases)
        ]
    )
    sums = _of_folds(table, [own.linear(table.values) for own in fit.folds])
    best = table.places(asked.evidence) < TRIED_TOGETHER
    grown = _grow(table, features, best, sums, asked.k, seed)
    fusion = fit.fusion
    if grown.share > 0:
        text = _forest(table, features, best, np.arange(len(table.cases)), seed)
        fusion = replace(fusion, model=0.0, model_forest_weight=round(grown.share, 6), model_forest=text)
    return grown.scores(1.0), fusion


def _members(asked: ModelTable, together: int, each: int) -> NDArray[np.bool_]:
    """Return which rows are candidates where the sources put up so many, bool [rows]."""
    table = asked.table
    members = np.concatenate([_asked(case.found) for case in table.cases]) | (table.places(asked.evidence) < together)
    if each:
        for number in range(table.values.shape[1]):
            members |= table.places(table.values[:, number]) < each
    return members


def _numbers(asked: ModelTable, scores: NDArray[np.floating]) -> tuple[int, int]:
    """Return how many candidates the signals together and each put up: the fewest that do not prove too few."""
    tried = [(CANDIDATES, 0), (CANDIDATES, TRIED_EACH), (TRIED_TOGETHER, 0), (TRIED_TOGETHER, TRIED_EACH)]
    gains = [asked.table.gains(scores, asked.k, _members(asked, *numbers)) for numbers in tried]
    best = int(np.argmax([own.mean() for own in gains]))
    return next(numbers for numbers, own in zip(tried, gains, strict=True) if not paired(gains[best], own).proves)


def _recalls(asked: ModelTable, together: int, each: int) -> dict[str, float]:
    """Return the share of cases whose item each source puts up."""
    table = asked.table

    def share(members: NDArray[np.bool_]) -> float:
        return round(float((members[table.target] & (table.target >= 0)).mean()), 4)

    own = np.concatenate([_asked(case.found) for case in table.cases])
    recalls = {
        "all together": share(_members(asked, together, each)),
        f"the signals together ({together})": share(table.places(asked.evidence) < together),
        "the language model": share(own),
    }
    for number, name in enumerate(asked.fit.fusion.signals):
        recalls[f"{name} ({TRIED_EACH})"] = share(table.places(table.values[:, number]) < TRIED_EACH)
    return recalls


def _proof(
    served: str, gains: Mapping[str, Gains], name: str, k: int, recalls: Mapping[str, float], words: Sequence[str]
) -> Proof:
    """Put together what was compared, best first."""
    own = gains[name]
    compared = []
    for other, found in sorted(gains.items(), key=lambda entry: -entry[1].mean()):
        if other != name:
            difference = paired(own, found)
            compared.append(
                Compared(
                    other,
                    round(float(found.mean()), 6),
                    round(difference.gain, 6),
                    round(difference.error, 6),
                    len(own),
                )
            )
    told = list(words)
    if compared:
        nearest = compared[0]
        told.append(
            f"Served: {served}. On {len(own)} validation cases that it was not fitted on, NDCG@{k} is "
            f"{own.mean():.4f}; {nearest.name}, the best other way, has {nearest.value:.4f} "
            f"(difference {nearest.gain:+.4f}, standard error {nearest.error:.4f})."
        )
    if recalls:
        told.append(
            "Share of cases whose item is among the candidates: "
            + ", ".join(f"{source} {share:.3f}" for source, share in recalls.items())
            + "."
        )
    return Proof(served, round(float(own.mean()), 6), k, len(own), tuple(compared), dict(recalls), tuple(told))


def _asked(value: NDArray[np.generic] | None) -> NDArray[np.generic]:
    assert value is not None  # noqa: S101 - for the type checker: these cases were all asked
    return value
