"""Explanations in the language model's own words: written under a constraint, checked, and replaced where they fail.

The model is given the evidence, the item and what the catalogue says of it, and writes freely; but where it opens a
quotation mark, only a name of the evidence or of the item can follow, token by token, up to the closing mark. Every
text is then checked (`genrec.explanation_check`). One that fails is written again with a seed; one that fails again
is replaced by the sentence made from the same evidence. So nothing unchecked is ever shown.

The easy mistake is a draw that depends on the batch: each text draws from a generator of its own, seeded by its prompt.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import LogitsProcessor

from genrec.catalog import Item
from genrec.decoding import batches_by_length
from genrec.explanation import Evidence, Language, Wording, evidence_sentence, name_of, named, names, quoted
from genrec.explanation_check import Checker
from genrec.free_generation import FreeGenerator
from prompts.encoding import encode_quoting, encode_text
from prompts.template import TextTemplate, load_text_template

Source = Literal["words", "rewritten", "sentence"]
"""Who wrote an explanation: the model, the model at the second attempt, or the deterministic sentence."""

TEMPLATES: dict[Language, str] = {"en": "explanation", "zh": "explanation-zh"}

MOST_TOKENS = {"short": 64, "long": 128}
MOST_SENTENCES = {"short": 1, "long": 3}

ATTEMPTS = 2

_STYLE: dict[Language, dict[str, str]] = {
    "en": {
        "short": "in one short sentence",
        "long": "in two or three sentences",
        "plain": "in a matter-of-fact tone",
        "warm": "in a warm tone",
        "attributes": " ({values})",
        "comma": ", ",
    },
    "zh": {
        "short": "用一句简短的话",
        "long": "用两三句话",
        "plain": "客观",
        "warm": "亲切",
        "attributes": "（{values}）",  # noqa: RUF001 - Chinese brackets
        "comma": "、",
    },
}
_SENTENCE_END = re.compile("[.!?](?= |$)|[。！？]")  # noqa: RUF001 - Chinese sentences end in their own marks
_OTHER_QUOTES = frozenset('”"„‟«»「」『』《》〈〉')


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be explained.

    Attributes:
        item: what is recommended.
        evidence: what speaks for it.
        history: the user's items.
        user: the user's id, for the check alone.
    """

    item: Item
    evidence: Evidence
    history: tuple[Item, ...]
    user: str = ""


@dataclass(frozen=True, slots=True)
class Explanation:
    """One explanation.

    Attributes:
        text: what is shown.
        cited: the evidence that it names.
        source: who wrote it.
        problems: what was wrong with the model's last text, where it was replaced.
    """

    text: str
    cited: tuple[Item, ...]
    source: Source = "sentence"
    problems: tuple[str, ...] = ()


def load_templates(run: Path | None = None) -> dict[Language, TextTemplate]:
    """Return what the model is asked with, by language: as a run was trained with it, or as it ships.

    Raises:
        PromptError: a run's template is wrong.
    """
    saved = {language: run / f"{name}.toml" for language, name in TEMPLATES.items()} if run else {}
    return {
        language: load_text_template(str(saved[language]) if language in saved and saved[language].exists() else name)
        for language, name in TEMPLATES.items()
    }


def prompt_values(item: Item, evidence: Evidence, wording: Wording) -> dict[str, str]:
    """Return the values of an explanation template."""
    style = _STYLE[wording.language]
    said = [*item.categories, *(value for name, value in item.attributes.items() if name in ("year", "brand"))]
    attributes = style["attributes"].format_map({"values": style["comma"].join(said[:4])}) if said else ""
    return {
        "evidence": names(evidence.items, wording.language),
        "item": quoted(item),
        "attributes": attributes,
        "length": style[wording.length],
        "tone": style[wording.tone],
    }


def sentence_of(request: Request, wording: Wording, problems: Sequence[str] = ()) -> Explanation:
    """Return the explanation that no model writes."""
    text = evidence_sentence(request.item, request.evidence, wording)
    return Explanation(text, request.evidence.items, "sentence", tuple(problems))


class Writer:
    """Writes explanations with one model.

    Args:
        generator: the language model, writing freely.
        checker: what must hold of a text.
        templates: what the model is asked with, by language.
    """

    def __init__(self, generator: FreeGenerator, checker: Checker, templates: dict[Language, TextTemplate]) -> None:
        self._generator = generator
        self._checker = checker
        self._templates = templates
        tokenizer = generator.tokenizer
        ends = [tokenizer.eos_token_id, generator.terminator[0]]
        self._stops = [int(end) for end in dict.fromkeys(ends) if end is not None]
        self._context = getattr(generator.model.config, "max_position_embeddings", None) or math.inf
        self._banned: Tensor | None = None

    def write(self, requests: Sequence[Request], wording: Wording, batch_size: int = 32) -> list[Explanation]:
        """Write one explanation for each request; the same for each as if it came alone.

        Args:
            requests: what is to be explained; one without evidence gets the sentence.
            wording: how.
            batch_size: how many at most are written side by side.
        """
        tokenizer, template = self._generator.tokenizer, self._templates[wording.language]
        done = [sentence_of(request, wording) for request in requests]
        waiting = [place for place, request in enumerate(requests) if request.evidence.items]
        prompts = {
            place: encode_text(
                template, tokenizer, prompt_values(requests[place].item, requests[place].evidence, wording)
            )
            for place in waiting
        }
        for place in [place for place in waiting if len(prompts[place]) + MOST_TOKENS[wording.length] > self._context]:
            done[place] = sentence_of(requests[place], wording, ["the model's context is too short for a text"])
            waiting.remove(place)
        for attempt in range(ATTEMPTS):
            failed = []
            for batch in batches_by_length([len(prompts[place]) for place in waiting], batch_size):
                places = [waiting[entry] for entry in batch]
                texts = self._attempt(
                    [requests[place] for place in places], [prompts[place] for place in places], wording, attempt
                )
                for place, text in zip(places, texts, strict=True):
                    done[place] = self._judged(requests[place], text, wording, attempt)
                    if done[place].source == "sentence":
                        failed.append(place)
            waiting = sorted(failed)
        return done

    def _judged(self, request: Request, text: str, wording: Wording, attempt: int) -> Explanation:
        """Return the text if it passes the check, or else the sentence."""
        evidence = request.evidence.items
        problems = self._checker.problems(text, request.item, request.history, evidence, request.user)
        if problems:
            return sentence_of(request, wording, problems)
        cited = tuple(item for item in evidence if name_of(item) in named(text))
        return Explanation(text, cited, "rewritten" if attempt else "words")

    def _attempt(
        self, requests: Sequence[Request], prompts: Sequence[Sequence[int]], wording: Wording, attempt: int
    ) -> list[str]:
        tokenizer = self._generator.tokenizer
        slots = [
            [encode_quoting(tokenizer, f"{name_of(item)}”") for item in (*request.evidence.items, request.item)]
            for request in requests
        ]
        noise = [_own_generator(prompt, attempt) if attempt else None for prompt in prompts]
        rows = self._generator.write(
            prompts,
            self._stops,
            MOST_TOKENS[wording.length],
            lambda start: _Slots(tokenizer, start, slots, noise, self._bans(), self._stops),
        )
        texts = [str(tokenizer.decode(row, skip_special_tokens=True)) for row in rows]
        return [tidied(text, MOST_SENTENCES[wording.length]) for text in texts]

    def _bans(self) -> Tensor:
        """Return bool [tokens]: those that may never stand outside a name."""
        if self._banned is None:
            tokenizer, width = self._generator.tokenizer, self._generator.head.weight.shape[0]
            banned = torch.ones(width, dtype=torch.bool)  # a head may be wider than its tokenizer
            texts = tokenizer.batch_decode([[token] for token in range(min(len(tokenizer), width))])
            for token, text in enumerate(texts):
                banned[token] = bool(_OTHER_QUOTES & set(text)) or "“" in text[:-1]
            banned[[token for token in tokenizer.all_special_ids if token < width]] = True
            banned[self._stops] = False
            self._banned = banned
        return self._banned


class _Slots(LogitsProcessor):  # type: ignore[misc]
    """Lets every row write freely, but after an opening quotation mark one of its own names only.

    Args:
        tokenizer: decodes what was written.
        start: where in each row the new tokens begin.
        slots: for each row, the tokens of the names that it may give, their closing marks included.
        noise: for each row, what to draw from; None: take the likeliest token.
        banned: bool [tokens]; those that may not stand outside a name.
        stops: the tokens that end a text.
    """

    def __init__(
        self,
        tokenizer: Any,
        start: int,
        slots: Sequence[Sequence[tuple[int, ...]]],
        noise: Sequence[torch.Generator | None],
        banned: Tensor,
        stops: Sequence[int],
    ) -> None:
        self._tokenizer = tokenizer
        self._start = start
        self._slots = slots
        self._noise = noise
        self._banned = banned
        self._stops = set(stops)
        self._free_since = [0] * len(slots)  # where the last name ended
        self._opened: list[int | None] = [None] * len(slots)  # where the name being written began

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return the scores with what may not come next at minus infinity."""
        scores = scores.float()
        banned = self._banned.to(scores.device)
        for row, written in enumerate(input_ids[:, self._start :].tolist()):
            if self._stops & set(written[-1:]):
                continue  # finished; whatever comes next is padding
            allowed = self._allowed(row, written)
            if allowed is None:
                scores[row] = scores[row].masked_fill(banned, -torch.inf)
            else:
                kept = torch.tensor(sorted(allowed), device=scores.device)
                scores[row] = torch.full_like(scores[row], -torch.inf).index_copy(0, kept, scores[row, kept])
            if (generator := self._noise[row]) is not None:
                # The largest of log-probabilities with Gumbel noise is a draw in proportion to them.
                drawn = torch.rand(scores.shape[1], generator=generator).clamp_(1e-10, 1 - 1e-7)
                scores[row] = scores[row].log_softmax(dim=-1) - (-drawn.log()).log().to(scores.device)
        return scores

    def _allowed(self, row: int, written: list[int]) -> set[int] | None:
        """Return the tokens that may go on a name, or None outside of names."""
        if self._opened[row] is None:
            if not self._tokenizer.decode(written[self._free_since[row] :]).endswith("“"):
                return None
            self._opened[row] = len(written)
        begun = tuple(written[self._opened[row] :])
        if begun in self._slots[row]:
            self._opened[row], self._free_since[row] = None, len(written)
            return None
        return {slot[len(begun)] for slot in self._slots[row] if slot[: len(begun)] == begun}


def tidied(text: str, sentences: int) -> str:
    """Return a text's first whole sentences in one line; nothing where there is not one.

    An end mark within a name ends no sentence. Some tokenizers write a blank after every opening mark; it is taken out.
    """
    line = re.sub("“ +", "“", " ".join(text.split()))
    line = re.sub(" +(?=[.,;:!?”])", "", line)
    hidden = re.sub("“[^“”]*”?", lambda match: "_" * len(match.group()), line)
    ends = [match.end() for match in _SENTENCE_END.finditer(hidden)][:sentences]
    return line[: ends[-1]] if ends else ""


def _own_generator(prompt: Sequence[int], seed: int) -> torch.Generator:
    """Return the generator of one text, which depends on nothing but its prompt and the seed."""
    digest = hashlib.sha256(f"{seed} {list(prompt)}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
