"""From text to token ids and labels: the only module that decides which tokens are supervised.

Pieces are tokenised one by one and concatenated. So an item's tokens are the same in a prompt, in an answer (an item's
token sequence as the target), and in the trie of the catalogue. If a prompt is too long, whole items are dropped, the
oldest first; a title or an answer is never cut.

A title is plain text: `<|im_end|>` in a title is five ordinary tokens, since items are encoded without special tokens.
Only template pieces may hold special tokens.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Literal

from prompts.chat import NO_CHAT, render_chat
from prompts.errors import PromptError
from prompts.template import Template
from prompts.tokens import special_habits, tokens_of

Family = Literal["causal", "seq2seq"]

IGNORED = -100
"""The label of a token that is not supervised; torch's cross-entropy skips it."""

_MARK = "\u241eITEMS\u241e"
"""A placeholder for the items while a chat template is rendered; cleaning removes this character from titles."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt as the model reads it.

    Attributes:
        input_ids: the prompt's tokens (the encoder's input in the seq2seq family).
        kept: how many of the newest history items are in it.
    """

    input_ids: tuple[int, ...]
    kept: int


@dataclass(frozen=True, slots=True)
class PromptParts:
    """A prompt, item by item.

    Attributes:
        opening: the tokens before the first item.
        items: the tokens of each history item that fits, its separator included, oldest first.
        cue: the tokens after the last item.
    """

    opening: tuple[int, ...]
    items: tuple[tuple[int, ...], ...]
    cue: tuple[int, ...]

    def without(self, places: Collection[int]) -> tuple[int, ...]:
        """Return the prompt's tokens with the items at some places (of `items`) left out."""
        kept = (item for place, item in enumerate(self.items) if place not in places)
        return (*self.opening, *(token for item in kept for token in item), *self.cue)


@dataclass(frozen=True, slots=True)
class Example:
    """A training example.

    Attributes:
        input_ids: the tokens (the encoder's input in the seq2seq family).
        labels: causal: one label per input token, `IGNORED` where not supervised; seq2seq: the decoder's targets.
    """

    input_ids: tuple[int, ...]
    labels: tuple[int, ...]

    @property
    def supervised(self) -> int:
        """Number of supervised tokens."""
        return sum(label != IGNORED for label in self.labels)


@dataclass(slots=True)
class PromptEncoder:
    """Encodes histories with one template and one tokenizer.

    Attributes:
        template: the template of prompts.
        tokenizer: any tokenizer of transformers.
        family: causal or seq2seq, as the model's config says.
        max_tokens: the longest prompt, and the longest training window; a model's context must hold this and one
            answer.
        embeddings: the size of the model's embedding table; None: as many as the tokenizer has tokens.
        own: labels that are a token of their own, which the tokenizer does not know, and these tokens.
    """

    template: Template
    tokenizer: Any
    family: Family = "causal"
    max_tokens: int = 1024
    embeddings: int | None = None
    own: Mapping[str, int] = field(default_factory=dict)
    _head: tuple[int, ...] = field(init=False, repr=False)
    _cue: tuple[int, ...] = field(init=False, repr=False)
    _separator: tuple[int, ...] = field(init=False, repr=False)
    _terminator: tuple[int, ...] = field(init=False, repr=False)
    _items: dict[str, tuple[int, ...]] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        template = self.template
        if self.family == "seq2seq" and template.style != "one-target":
            raise PromptError(
                f"template {template.name!r} is whole-history; a seq2seq model needs a one-target template"
            )
        opening, cue = template.opening, template.cue
        if template.chat:
            opening, cue = self._chat_pieces()
        starts, ends = special_habits(self.tokenizer)
        bos = () if template.chat and opening.startswith(self.tokenizer.bos_token or "\0") else starts
        self._head = (*bos, *self._pieces(opening))
        self._separator = self._pieces(template.separator)
        between = template.separator or template.ending
        if not self._pieces(between):
            raise PromptError(
                f"template {template.name!r}: this tokenizer drops the separator {between!r}, so items "
                "would run into each other; use a visible separator such as ' ;'"
            )
        self._cue = (*self._pieces(cue), *(ends if self.family == "seq2seq" else ()))
        if template.style == "whole-history" or not template.separator:
            self._terminator = self._separator
        elif self.tokenizer.eos_token_id is not None:
            self._terminator = (int(self.tokenizer.eos_token_id),)
        else:
            raise PromptError("this tokenizer has no end-of-sequence token; use a whole-history template")

    @property
    def terminator(self) -> tuple[int, ...]:
        """The tokens that end an answer; empty if the item's own text has an ending."""
        return self._terminator

    @property
    def stop(self) -> int:
        """The token that ends a free text.

        Raises:
            PromptError: there is none.
        """
        if self._terminator:
            return self._terminator[0]
        if self.tokenizer.eos_token_id is None:
            raise PromptError("this tokenizer has no end-of-sequence token; use a template with a separator")
        return int(self.tokenizer.eos_token_id)

    def item(self, label: str) -> tuple[int, ...]:
        """Return an item's tokens, the same wherever it stands.

        Raises:
            PromptError: the tokenizer has no tokens for this label.
        """
        if label not in self._items:
            self.remember([label])
        return self._items[label]

    def answer(self, label: str) -> tuple[int, ...]:
        """Return an item's answer: the tokens of its label, then the terminator."""
        return self.item(label) + self._terminator

    def with_own(self, own: Mapping[str, int], embeddings: int) -> PromptEncoder:
        """Return an encoder that also knows labels which are a token of their own; this one stays as it is.

        Args:
            own: the labels and their tokens.
            embeddings: the size of the embedding table that has these tokens.
        """
        more = PromptEncoder(
            self.template, self.tokenizer, self.family, self.max_tokens, embeddings, {**self.own, **own}
        )
        more._items = {label: tokens for label, tokens in self._items.items() if label not in own}
        return more

    def text(self, tokens: Sequence[int]) -> str:
        """Return what tokens say, with special tokens, as people may read it; `own` tokens by their labels."""
        labels = {token: label for label, token in self.own.items()}
        parts: list[str] = []
        for known, some in groupby(tokens, key=lambda token: token not in labels):
            if known:
                parts.append(str(self.tokenizer.decode(list(some))))
            else:
                parts += [self.template.item_text(labels[token]) for token in some]
        return "".join(parts)

    def answers(self, labels: Sequence[str]) -> list[tuple[int, ...]]:
        """Return the answers of many labels, tokenised in one call; the trie is built from them."""
        self.remember(labels)
        return [self.answer(label) for label in labels]

    def remember(self, labels: Sequence[str]) -> None:
        """Tokenise many labels in one call, which is much faster than one by one.

        Raises:
            PromptError: the tokenizer has no tokens for a label.
        """
        new = [label for label in dict.fromkeys(labels) if label not in self._items]
        for label in new:
            if label in self.own:
                self._check_range([self.own[label]], label)
                self._items[label] = (self.own[label],)
        new = [label for label in new if label not in self._items]
        if not new:
            return
        texts = [self.template.item_text(label) for label in new]
        encoded = tokens_of(self.tokenizer, texts, split_special_tokens=True)
        for label, ids in zip(new, encoded, strict=True):
            self._check_range(ids, label)
            if not ids:
                raise PromptError(
                    f"this tokenizer has no tokens for the label {label[:60]!r}; give the item another title"
                )
            self._items[label] = tuple(ids)

    def prompt(self, labels: Sequence[str]) -> Prompt:
        """Return the prompt of a history; if it is too long, the oldest items are dropped.

        Args:
            labels: the history's labels, oldest first.

        Raises:
            PromptError: the history is empty, or not even its newest item fits.
        """
        parts = self.parts(labels)
        return Prompt(parts.without(()), len(parts.items))

    def parts(self, labels: Sequence[str]) -> PromptParts:
        """Return the parts of a history's prompt, for prompts with some of its items left out.

        Raises:
            PromptError: the history is empty, or not even its newest item fits.
        """
        kept = labels[len(labels) - self._fitting(labels) :]
        return PromptParts(self._head, tuple(self.item(label) + self._separator for label in kept), self._cue)

    def examples(self, labels: Sequence[str]) -> list[Example]:
        """Return the training examples of one history, in the template's own style.

        Args:
            labels: the history's labels, oldest first; every one after the first is supervised exactly once.
        """
        if self.template.style == "whole-history":
            return self._whole_history(labels)
        return [self.one_target(labels[:place], labels[place]) for place in range(1, len(labels))]

    def one_target(self, labels: Sequence[str], target: str) -> Example:
        """Return the example of one question and its answer."""
        question, answer = self.prompt(labels).input_ids, self.answer(target)
        if self.family == "seq2seq":
            return Example(question, answer)
        return Example(question + answer, (IGNORED,) * len(question) + answer)

    def _whole_history(self, labels: Sequence[str]) -> list[Example]:
        """Cut a history into windows that fit; each later window opens with context that is not supervised again."""
        lengths = [len(self.answer(label)) for label in labels]
        room = self.max_tokens - len(self._head)
        examples: list[Example] = []
        done = 1
        while done < len(labels):
            first = done - self._count_fitting(lengths[:done], room // 2 if examples else room)
            if first == done or sum(lengths[first : done + 1]) > room:
                # No context item fits in half the room: take only the newest, which must fit beside one target.
                first = done - 1
            last = done
            while last < len(labels) and sum(lengths[first : last + 1]) <= room:
                last += 1
            if last == done:
                raise PromptError(self._too_long(max(lengths[first : done + 1])))
            examples.append(self._window(labels[first:last], done - first))
            done = last
        return examples

    def _window(self, labels: Sequence[str], context: int) -> Example:
        ids, targets = list(self._head), [IGNORED] * len(self._head)
        for place, label in enumerate(labels):
            tokens = self.answer(label)
            ids += tokens
            targets += tokens if place >= context else [IGNORED] * len(tokens)
        return Example(tuple(ids), tuple(targets))

    def _fitting(self, labels: Sequence[str]) -> int:
        """Return the number of the newest labels that fit in a prompt."""
        if not labels:
            raise PromptError("the history is empty; a prompt needs at least one item (see the cold-start template)")
        room = self.max_tokens - len(self._head) - len(self._cue)
        kept = self._count_fitting([len(self.item(label)) + len(self._separator) for label in labels], room)
        if kept == 0:
            raise PromptError(self._too_long(len(self.item(labels[-1]))))
        return kept

    @staticmethod
    def _count_fitting(lengths: Sequence[int], room: int) -> int:
        kept = 0
        for length in reversed(lengths):
            room -= length
            if room < 0:
                break
            kept += 1
        return kept

    def _too_long(self, tokens: int) -> str:
        return (
            f"not even one item fits: an item of {tokens} tokens in a prompt of {self.max_tokens} "
            f"({len(self._head) + len(self._cue)} of them the template's); raise max_tokens or shorten the title"
        )

    def _pieces(self, text: str) -> tuple[int, ...]:
        ids = tokens_of(self.tokenizer, [text])[0] if text else []
        self._check_range(ids, text)
        return tuple(ids)

    def _check_range(self, ids: Sequence[int], text: str) -> None:
        if self.embeddings is not None and ids and max(ids) >= self.embeddings:
            raise PromptError(
                f"{text[:60]!r} holds token {max(ids)} of this tokenizer, and the model has embeddings of "
                f"{self.embeddings} tokens; tokens were added to the tokenizer only: call "
                "model.resize_token_embeddings(len(tokenizer)) and save the base again, or take another base"
            )

    def _chat_pieces(self) -> tuple[str, str]:
        """Return the text before and after the items when the whole is a user's turn in the chat template."""
        content = self.template.opening + _MARK + self.template.cue
        pieces = render_chat(self.tokenizer, content).split(_MARK)
        if len(pieces) != 2:
            found = f"{len(pieces) - 1} times" if len(pieces) > 2 else "not at all, or changed"
            raise PromptError(
                f"this tokenizer's chat template gives back what a user says {found}; a history must stand in the "
                f"prompt once and as it is. {NO_CHAT}"
            )
        return pieces[0], pieces[1]
