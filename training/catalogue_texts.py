"""The catalogue as training text: a causal model reads it before it is fine-tuned on histories.

New and rare items occur in no history or in few. Here the model learns their titles, categories and descriptions like
any text, with every token a target (continued pretraining, Gururangan et al., "Don't Stop Pretraining", 2020). A title
stands both before its details and after them: a model that has read only one order does not know the other (Berglund
et al., "The Reversal Curse", 2023).

The same encoder tokenises titles here and in prompts, so their tokens are the same.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from prompts.encoding import Example, PromptEncoder
from prompts.tokens import special_habits

END = "\n"
"""What ends a title's line and an item's details."""


@dataclass(frozen=True, slots=True)
class ItemText:
    """An item's text.

    Attributes:
        label: its label, as prompts write it.
        details: lines such as `Categories: Drama, War`; may be empty.
    """

    label: str
    details: tuple[str, ...] = ()


def catalogue_examples(encoder: PromptEncoder, items: Sequence[ItemText], seed: int = 0) -> list[Example]:
    """Return windows of text over a whole catalogue, every token but the first supervised.

    Args:
        encoder: spells titles; of the causal family.
        items: what is known of each item.
        seed: the seed of the order.

    Returns:
        Windows of at most `encoder.max_tokens` tokens; a title is never cut, long details are.
    """
    tokenizer = encoder.tokenizer
    starts, _ = special_habits(tokenizer)
    room = encoder.max_tokens - len(starts)
    end = tuple(tokenizer(END, add_special_tokens=False)["input_ids"]) or encoder.terminator
    encoder.remember([item.label for item in items])
    texts = [END.join(item.details) for item in items if item.details]
    spelt = iter(tokenizer(texts, add_special_tokens=False, split_special_tokens=True)["input_ids"] if texts else ())
    passages: list[tuple[int, ...]] = []
    for item in items:
        title = (*encoder.item(item.label), *end)
        if not item.details:
            passages.append(title)
            continue
        details = (*next(spelt)[: max(0, room - len(title) - len(end))], *end)
        passages += [title + details, details + title]
    random.Random(seed).shuffle(passages)  # noqa: S311 - not cryptography
    windows: list[list[int]] = []
    for passage in passages:
        if not windows or len(windows[-1]) + len(passage) > encoder.max_tokens:
            windows.append(list(starts))
        windows[-1] += passage
    return [Example(tuple(window), tuple(window)) for window in windows]
