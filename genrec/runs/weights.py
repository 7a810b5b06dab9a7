"""The weights of a run's signals: fitted on validation cases where there are enough, and written into the run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from genrec.data.splits import Case
from genrec.errors import DataError
from genrec.recommender import Recommender
from genrec.runs.folder import FUSION
from genrec.runs.tuning import tune_fusion
from genrec.storage.folders import (
    write_json,
)
from training.recipe import Recipe

FEWEST_CASES = 20
"""Validation cases below which no weights are fitted: there are about half as many signals."""


def fit_fusion(
    load: Callable[[], Recommender],
    valid: Sequence[Case],
    recipe: Recipe,
    out: Path,
    progress: Callable[[int, int], None] | None = None,
) -> str:
    """Fit the weights of all signals on validation cases, where there are enough and the recipe wants it; write them.

    A run whose weights cannot be fitted is whole all the same: its signals are fused by reciprocal ranks.

    Returns:
        Why there are none; nothing where they were fitted.
    """
    (out / FUSION).unlink(missing_ok=True)  # of an earlier fit, with other settings
    if recipe.tuning_cases == 0:
        return "the recipe has tuning_cases=0"
    usable = [case for case in valid if case.history.items]
    if len(usable) < FEWEST_CASES:
        return few_cases(len(usable))
    try:
        fusion = tune_fusion(
            load(), valid, recipe.tuning_cases, recipe.seed, progress=progress, minutes=recipe.tuning_minutes
        )
    except DataError as error:  # training has been paid for by now
        return str(error)
    if fusion.cases < FEWEST_CASES:
        return few_cases(fusion.cases)
    write_json(out / FUSION, fusion.to_json())
    return ""


def few_cases(count: int) -> str:
    """Return why no weights are fitted on so few cases."""
    return (
        f"there are {count} validation cases to fit them on, and fewer than {FEWEST_CASES} would teach their accidents"
    )
