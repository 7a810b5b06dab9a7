"""Texts to tokens with any tokenizer of `transformers`, and the special tokens that it adds by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prompts.errors import PromptError, first_line


def tokens_of(
    tokenizer: Any, texts: Sequence[str], add_special_tokens: bool = False, split_special_tokens: bool = False
) -> list[list[int]]:
    """Return the tokens of several texts.

    Raises:
        PromptError: the tokenizer fails; one without an unknown token raises a bare Exception for unknown text.
    """
    options = {
        "add_special_tokens": add_special_tokens,
        **({"split_special_tokens": True} if split_special_tokens else {}),
    }
    try:
        return list(tokenizer(list(texts), **options)["input_ids"])
    except Exception as error:  # the Rust side has no class of its own for it
        raise PromptError(
            f"this tokenizer fails on {texts[0][:60]!r}{' or a text beside it' if len(texts) > 1 else ''}: "
            f"{first_line(error)}; use a base whose tokenizer has a token for what it does not know"
        ) from error


def special_habits(tokenizer: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the special tokens that a tokenizer puts before and after a text, found by encoding one."""
    plain = tokens_of(tokenizer, ["a"])[0]
    full = tokens_of(tokenizer, ["a"], add_special_tokens=True)[0]
    for start in range(len(full) - len(plain) + 1):
        if full[start : start + len(plain)] == plain:
            return tuple(full[:start]), tuple(full[start + len(plain) :])
    raise PromptError("this tokenizer encodes a text differently beside special tokens; it cannot be used")
