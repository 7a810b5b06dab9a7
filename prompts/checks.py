"""Checks of a tokenizer, and of its answers (token sequences) for a catalogue's items, before training.

A model knows items by their tokens only: it cannot distinguish two items with the same tokens, even if their titles
differ. The loss does not show this.

A check for unknown tokens is not enough: a tokenizer that lowers case or drops accents knows every letter but still
gives two titles the same tokens.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import pairwise

from prompts.chat import has_clock
from prompts.encoding import PromptEncoder
from prompts.errors import PromptError

logger = logging.getLogger(__name__)

TOLD_UNKNOWN = 0.05
"""If at least this share of titles has letters that the tokenizer does not know, a warning is logged."""

ENCODED_TWICE = 200
"""Labels that are encoded a second time, to check that the tokens are the same."""


def check_answers(encoder: PromptEncoder, labels: Sequence[str]) -> None:
    """Check that a catalogue's answers can be learnt and distinguished.

    Args:
        encoder: the encoder with the template and tokenizer of the training.
        labels: every item's label.

    Raises:
        PromptError: an answer cannot be learnt or distinguished.
    """
    tokenizer = encoder.tokenizer
    answers = encoder.answers(labels)
    _ = encoder.stop  # serving needs one, so its absence must be found before training
    again = PromptEncoder(encoder.template, tokenizer, encoder.family, encoder.max_tokens)
    if again.answers(labels[:ENCODED_TWICE]) != answers[:ENCODED_TWICE]:
        raise PromptError(
            "this tokenizer gives the same text other tokens each time (it was saved with dropout, or draws its "
            "pieces); save it without, or use another base"
        )
    unknown = tokenizer.unk_token_id
    lacking = sum(unknown in answer for answer in answers) if unknown is not None else 0
    check_distinct(answers, labels, unknown)
    if lacking >= max(1, TOLD_UNKNOWN * len(answers)):
        logger.warning(
            "this tokenizer does not know all letters of %d of %d titles, and reads %r for them; a base made by "
            "genrec pretrain knows them all",
            lacking,
            len(answers),
            tokenizer.unk_token,
        )
    if encoder.template.chat and has_clock(tokenizer):
        logger.warning("this tokenizer's chat template writes the time; here it is always the beginning of 2024")


def check_distinct(answers: Sequence[tuple[int, ...]], labels: Sequence[str], unknown: int | None = None) -> None:
    """Check that no answer equals another item's answer or is a prefix of one.

    Args:
        answers: each item's tokens, the terminator included.
        labels: each item's label, for the message.
        unknown: the tokenizer's token for unknown text.

    Raises:
        PromptError: an answer equals another or is a prefix of one.
    """
    # In sorted order, an answer stands right before the first answer of which it is a prefix.
    order = sorted(range(len(answers)), key=answers.__getitem__)
    merged: set[int] = set()
    example: tuple[int, int] | None = None
    for first, second in pairwise(order):
        if answers[first] == answers[second]:
            merged |= {first, second}
            example = example or (first, second)
    if example is not None:
        one, other = sorted(example)
        why = "only what the tokenizer does not keep, such as case or accents, sets them apart"
        if unknown is not None and unknown in answers[one]:
            why = "it does not know their letters"
        raise PromptError(
            f"this tokenizer makes the same tokens of {len(merged)} of {len(answers)} items, such as "
            f"{labels[one][:60]!r} and {labels[other][:60]!r}: {why}. A model cannot tell such items apart; use a base "
            "whose tokenizer can (genrec pretrain makes one), or give the items other titles"
        )
    for first, second in pairwise(order):
        if answers[second][: len(answers[first])] == answers[first]:
            raise PromptError(
                f"the tokens of {labels[first][:60]!r} and their end begin those of {labels[second][:60]!r}: what ends "
                "an item in this template stands inside a title for this tokenizer; use another template or base, or "
                "give the item another title"
            )
