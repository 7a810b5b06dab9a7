"""The errors of training; each message says how to correct the cause."""

from __future__ import annotations

from collections.abc import Sequence


class TrainingError(ValueError):
    """Base of every error that a user of training can cause and correct."""


class RecipeError(TrainingError):
    """Raised when a recipe is wrong.

    Args:
        problems: every problem found.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(self.problems))


class BackboneError(TrainingError):
    """Raised when a base model cannot be loaded or cannot be used for recommending."""
