"""Passes over the histories, and the validation cases that decide which pass is kept."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

from prompts.encoding import PromptEncoder
from training.batches import Batches
from training.learner import Learner
from training.new_base import Labels
from training.pretrain_recipe import PretrainRecipe

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pass:
    """One pass over the histories.

    Attributes:
        number: from 1.
        train: mean loss per supervised token, in nats.
        valid: mean loss per validation answer, in nats.
        gain: how far up a validation answer's tokens stand among all tokens that the loss is over: the mean over
            answers of their product of 1 / log2(1 + rank), 0 beyond `K`. Where titles are one token, this is NDCG@10.
        seconds: since the beginning.
    """

    number: int
    train: float
    valid: float
    gain: float
    seconds: float


def best_pass(passes: Sequence[Pass]) -> Pass:
    """Return the pass that puts validation answers highest; of equals (to a thousandth) the likeliest, then the last.

    Args:
        passes: at least one.
    """
    return max(passes, key=lambda one: (round(one.gain, 3), -one.valid, one.number))


Question = tuple[Labels, str]
"""A history's labels and the label that came next."""


PART = 256
"""Validation cases that are judged between two checks of the clock."""


class Questions:
    """Validation cases in parts, each a sample of all of them; encoded when first asked.

    Attributes:
        parts: how many are asked.
    """

    def __init__(
        self, encoder: PromptEncoder, valid: Sequence[Question], recipe: PretrainRecipe, multiple: int
    ) -> None:
        self._encoder, self._recipe, self._multiple = encoder, recipe, multiple
        # Not cryptography; batches are put together by length inside a part, so a part favours no length.
        self._shuffled = random.Random(recipe.seed).sample(list(valid), len(valid))  # noqa: S311
        self._made: dict[int, Batches] = {}
        self.parts = -(-len(valid) // PART)

    def __len__(self) -> int:
        return len(self._shuffled)

    def part(self, number: int) -> Batches:
        """Return one part's batches."""
        if number not in self._made:
            asked = self._shuffled[number * PART : (number + 1) * PART]
            examples = [self._encoder.one_target(*question) for question in asked]
            self._made[number] = Batches(examples, self._recipe.batch_tokens, self._recipe.seed, self._multiple)
        return self._made[number]


def judge_all(learner: Learner, questions: Questions, until: float | None) -> tuple[float, float]:
    """Return the result of `Learner.judge` over all questions, or over those that the time allows.

    Args:
        learner: see there.
        questions: what is asked; cut to what was asked when the time was up, so that all passes are judged alike.
        until: the clock's time from which no further part is asked; None asks all.
    """
    losses, gains, counts = [], [], []
    for number in range(questions.parts):
        begun = time.monotonic()
        part = questions.part(number)
        loss, gain = learner.judge(part)
        count = sum(map(len, part.groups))
        losses.append(loss * count)
        gains.append(gain * count)
        counts.append(count)
        now = time.monotonic()
        # The next part will take about as long as this one.
        if until is not None and 2 * now - begun > until and number + 1 < questions.parts:
            questions.parts = number + 1
            logger.warning(
                "each pass is judged on the same %s of %s validation cases, drawn by the seed: all would take too much "
                "of the minutes",
                f"{sum(counts):,}",
                f"{len(questions):,}",
            )
            break
    return sum(losses) / max(1, sum(counts)), sum(gains) / max(1, sum(counts))
