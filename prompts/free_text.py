"""Free texts, such as explanations: the prompt, and the training target."""

from __future__ import annotations

import re
from typing import Any

from prompts.chat import render_chat
from prompts.encoding import IGNORED, Example, Family
from prompts.errors import PromptError
from prompts.template import TextTemplate
from prompts.tokens import special_habits, tokens_of


def encode_text(template: TextTemplate, tokenizer: Any, values: dict[str, str]) -> tuple[int, ...]:
    """Return the tokens of a text template's rendering, ready for free generation.

    Values are encoded apart from the template's own text and without special tokens, so a title can neither end a
    turn nor begin one.

    Raises:
        PromptError: the values do not match the template's variables.
    """
    # A placeholder stands for each value while template and chat template are rendered.
    text = template.render({name: f"\u241e{name}\u241e" for name in values})
    starts, ends = special_habits(tokenizer)
    if template.chat and getattr(tokenizer, "chat_template", None):
        text, starts, ends = render_chat(tokenizer, text), (), ()
    ids = list(starts)
    for place, piece in enumerate(re.split("\u241e(\\w+)\u241e", text)):
        own = values[piece] if place % 2 else piece
        ids += tokens_of(tokenizer, [own], split_special_tokens=bool(place % 2))[0]
    return (*ids, *ends)


def encode_quoting(tokenizer: Any, text: str) -> tuple[int, ...]:
    """Return a text's tokens, every quoted name apart, so that a name has the same tokens in whatever text it stands.

    Args:
        tokenizer: any tokenizer of transformers.
        text: names stand between “ and ”; the closing mark belongs to the name, the opening one does not.
    """
    pieces = [piece for piece in re.split("(?<=“)|(?<=”)", text) if piece]
    encoded = tokens_of(tokenizer, pieces, split_special_tokens=True) if pieces else []
    return tuple(token for ids in encoded for token in ids)


def text_example(
    template: TextTemplate, tokenizer: Any, values: dict[str, str], answer: str, family: Family
) -> Example:
    """Return the example of one free text: all of the answer, and its end, is supervised.

    Raises:
        PromptError: the values do not match the template's variables, or the tokenizer has no end of a text.
    """
    if tokenizer.eos_token_id is None:
        raise PromptError("this tokenizer has no end-of-sequence token; no free text can be learnt with it")
    question = encode_text(template, tokenizer, values)
    target = (*encode_quoting(tokenizer, answer), int(tokenizer.eos_token_id))
    if family == "seq2seq":
        return Example(question, target)
    return Example(question + target, (IGNORED,) * len(question) + target)
