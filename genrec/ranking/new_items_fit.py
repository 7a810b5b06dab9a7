"""How an item that nobody took is scored beside known ones: fitted on known items that are pretended to be new.

The fusion is fitted on known items. For a new one, the counted signals are borrowed and the model's likelihood comes
from what the item is, not from who took it: both deserve another weight than a known item's, and the whole another
level. So a new item's score is

    fused * score + model * log-likelihood + offset

with three numbers fitted by likelihood (conditional logit). A seeded share of the items is pretended to be new: hidden
from the counts, from the histories, and, for the model, without what only clicks taught it. Cases whose answer is such
an item are few, so all of them are asked and a sample of the others. That changes only the offset, by the logarithm of
the ratio (Manski and Lerman, "The estimation of choice probabilities from choice based samples", Econometrica 45(8),
1977), and it is put right.

Of the likeliest offset and some lower ones, the one whose gain is surest is taken. The correction is used only if it
gains NDCG over all cases, both kinds counted as often as they occur, by more than its standard error on cases that it
was not fitted on.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from genrec.ranking.cases import FOLDS, Table, of_folds
from genrec.ranking.new_items import NewItems
from genrec.ranking.proof import Gains, Paired, paired, told
from genrec.ranking.weights import fit_weights

FEWEST = 30
"""Cases with an answer that is pretended to be new, below which nothing is fitted."""

SHIFTS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
"""How much lower the offset is tried than what is likeliest: lists are short, and a likelihood counts all places."""

LEAST_SCALE = 1e-3
"""The least weight of known items' scores, to which the three numbers are relative."""


def fit_new_items(
    table: Table,
    scores: NDArray[np.float32],
    likelihoods: NDArray[np.float32],
    new: NDArray[np.bool_],
    answers_new: NDArray[np.bool_],
    share: float,
    k: int,
) -> tuple[NewItems | None, str]:
    """Fit the score of new items, and return it, or None if it is of no proven use, with the reason in a sentence.

    Args:
        table: cases of both kinds.
        scores: the fused scores, of shape (rows,).
        likelihoods: the model's log-likelihoods, of shape (rows,).
        new: which rows are pretended to be new.
        answers_new: which cases have an answer that is pretended to be new, whether it is a candidate or not.
        share: the share of such cases among all, as they occur.
        k: the length of the lists that are compared.
    """
    if int((answers_new & (table.target >= 0)).sum()) < FEWEST:
        return None, f"New items are scored like known ones: fewer than {FEWEST} cases could tell of them."
    columns = np.stack([scores * ~new, scores * new, likelihoods * new, new.astype(np.float32)], axis=1)
    everything = np.arange(len(table.cases))
    whole = _fitted(columns, table, everything, answers_new, share)
    if whole is None:
        return None, "New items are scored like known ones: no case of one kind had its answer among the candidates."
    others = [np.flatnonzero(table.fold != fold) for fold in range(FOLDS)]
    folds = [_fitted(columns, table, part, answers_new, share) or whole for part in others]
    before = table.gains(scores, k)
    tried = {}
    for shift in SHIFTS:
        changed = of_folds(table, [one.lower_by(shift).applied(scores, likelihoods, new) for one in folds])
        tried[shift] = table.gains(changed, k)
    gained = {shift: _weighted(before, after, answers_new, share) for shift, after in tried.items()}
    shift = max(gained, key=lambda one: gained[one].gain - gained[one].error)
    whole, found, after = whole.lower_by(shift), gained[shift], tried[shift]
    on_new, on_known = (paired(after[part], before[part]) for part in (answers_new, ~answers_new))
    words = (
        f"{told(found)} of NDCG@{k} over all cases, {told(on_new)} where the answer is new ({int(answers_new.sum())} "
        f"cases), {told(on_known)} where it is known"
    )
    if not found.proves:
        return None, f"New items are scored like known ones: a score of their own earns {words}, which is no proof."
    return whole, (
        f"A new item's score is {whole.fused:.2f} times the fused one, {whole.model:.2f} times the language model's "
        f"log-likelihood, and {whole.offset:+.2f}: that earns {words}."
    )


def _fitted(
    columns: NDArray[np.float32], table: Table, cases: NDArray[np.int64], answers_new: NDArray[np.bool_], share: float
) -> NewItems | None:
    told_new = int((answers_new[cases] & (table.target[cases] >= 0)).sum())
    told_known = int((~answers_new[cases] & (table.target[cases] >= 0)).sum())
    if not told_new or not told_known:
        return None
    weights = fit_weights(columns, table, cases)[0]
    asked_new, asked_known = int(answers_new[cases].sum()), int((~answers_new[cases]).sum())
    too_often = np.log(asked_new / asked_known) - np.log(share / (1 - share))
    scale = max(float(weights[0]), LEAST_SCALE)
    fused, model, offset = (float(one) / scale for one in (weights[1], weights[2], weights[3] - too_often))
    return NewItems(round(fused, 6), round(model, 6), round(offset, 6), told_new)


def _weighted(before: Gains, after: Gains, answers_new: NDArray[np.bool_], share: float) -> Paired:
    """Return the mean gain over both kinds of cases, as often as they occur, and its standard error."""
    parts = [(part, paired(after[part], before[part])) for part in (answers_new, ~answers_new)]
    weights = (share, 1.0 - share)
    gain = sum(weight * found.gain for weight, (_, found) in zip(weights, parts, strict=True))
    error = np.sqrt(sum((weight * found.error) ** 2 for weight, (_, found) in zip(weights, parts, strict=True)))
    return Paired(float(gain), float(error))
