"""The score of new items: what is put in is found again, however often new items were asked about, or nothing is."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from genrec.ranking.cases import FOLDS, FitCase, Table
from genrec.ranking.fusion import Fusion
from genrec.ranking.new_items import NewItems
from genrec.ranking.new_items_fit import fit_new_items

SIZE, NEW = 40, 8
TRUE = NewItems(0.5, 1.5, -2.0, 0)


def cases(
    count: int, true: NewItems, seed: int, asked_of_new: float | None = None
) -> tuple[Table, NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_], float]:
    """Draw answers by scores whose terms for new items are known; also return the share of new answers as they occur.

    Args:
        count: how many.
        true: the terms.
        seed: of the drawing.
        asked_of_new: the share of cases with a new answer that are asked; None: as they occur.
    """
    draw = np.random.default_rng(seed)
    scores, likelihoods, told, answers, drawn, drawn_new = [], [], [], [], 0, 0
    new = np.arange(SIZE) < NEW
    while len(told) < count:
        want_new = None if asked_of_new is None else draw.random() < asked_of_new
        while True:
            own, likely = (
                (draw.normal(size=SIZE) * 2).astype(np.float32),
                (draw.normal(size=SIZE) * 2).astype(np.float32),
            )
            odds = np.exp(true.applied(own, likely, new))
            target = int(draw.choice(SIZE, p=odds / odds.sum()))
            drawn, drawn_new = (
                drawn + (want_new in (None, False)),
                drawn_new + (target < NEW and want_new in (None, False)),
            )
            if want_new in (None, target < NEW):
                break
        values = np.ones((SIZE, 1), np.float32)
        told.append(FitCase(values, values, 3, target, len(told) % FOLDS))
        scores.append(own)
        likelihoods.append(likely)
        answers.append(target < NEW)
    parts = Table(told), np.concatenate(scores), np.concatenate(likelihoods), np.tile(new, count), np.array(answers)
    return (*parts, drawn_new / drawn)


def test_the_terms_are_found_and_the_offset_does_not_hang_on_how_often_new_items_were_asked_about() -> None:
    for asked_of_new in (None, 0.6):
        fitted, words = fit_new_items(*cases(1500, TRUE, 1, asked_of_new), k=10)
        assert fitted is not None, words
        assert fitted.fused == pytest.approx(TRUE.fused, abs=0.25)
        assert fitted.model == pytest.approx(TRUE.model, abs=0.35)
        assert TRUE.offset - 1.7 < fitted.offset < TRUE.offset + 0.7
        assert "where the answer is new" in words


def test_what_does_not_help_is_not_used() -> None:
    """New items that are scored rightly already need no terms of their own, and few cases tell nothing."""
    fitted, words = fit_new_items(*cases(400, NewItems(1.0, 0.0, 0.0, 0), 2), k=10)
    assert fitted is None or abs(fitted.model) + abs(fitted.offset) < 0.7, words
    fitted, words = fit_new_items(*cases(20, TRUE, 3), k=10)
    assert fitted is None
    assert "fewer than" in words


def test_only_new_items_are_changed_and_the_terms_are_kept() -> None:
    terms = NewItems(0.5, 2.0, -1.0, 77)
    scores, likelihoods = np.array([1.0, 2.0], np.float32), np.array([-1.0, -2.0], np.float32)
    assert terms.applied(scores, likelihoods, np.array([False, True])).tolist() == [1.0, -4.0]
    fusion = Fusion(("a",), (1.0,), (1.0,), 0.5, 10, 10, new_items=terms)
    assert Fusion.from_json(fusion.to_json()) == fusion
    assert "new_items" not in Fusion(("a",), (1.0,), (1.0,), 0.5, 10, 10).to_json()
