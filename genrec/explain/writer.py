"""Explanations in the language model's own words: written under a constraint, checked, and replaced if they fail.

The model is given the evidence, the item and the item's catalogue entry. Its text begins with the item's name, and the
rest is free. After an opening quotation mark, however, only a name of the evidence can follow, token by token, up to
the closing mark, and each name only once. Every text is then checked (`genrec.explain.check`). A text that fails is
written again with a seed. If that fails too, the grammar's sentence, made from the same evidence, replaces it. So no
unchecked text is ever shown.

Each text samples from its own generator, seeded by its prompt, so that the result does not depend on the batch.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import LogitsProcessor

from genrec.data.catalog import Catalog, Item
from genrec.explain.check import FOREIGN_MARKS, Checker
from genrec.explain.claims import Claim
from genrec.explain.evidence import Evidence, Language, Wording
from genrec.explain.facts import CatalogueFacts
from genrec.explain.grammar import Grammar, Reason
from genrec.explain.names import name_of, named, quoted
from genrec.explain.style import shipped_style
from genrec.language.decoder import batches_by_length
from genrec.language.generator import FreeGenerator
from prompts.free_text import encode_quoting, encode_text
from prompts.template import TextTemplate, load_text_template, variables

Source = Literal["words", "rewritten", "sentence"]
"""Who wrote an explanation: the model, the model at the second attempt, or the deterministic sentence."""

TEMPLATES: dict[Language, str] = {"en": "explanation", "zh": "explanation-zh"}

MOST_TOKENS = {"short": 96, "long": 192}
MOST_SENTENCES = {"short": 1, "long": 3}

ATTEMPTS = 2

SAMPLE = 12
SURPRISE = 1.5
"""A text with this many times the surprise of the grammar's sentences, for the same model, counts as nonsense."""

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
_TRIES = 50  # of tokens at one place; where none of them may stand there, the text ends


@dataclass(frozen=True, slots=True)
class Request:
    """One recommendation to be explained.

    Attributes:
        item: the recommended item.
        evidence: the evidence for it.
        reason: the grammar's reason, which is used if the model's text fails.
        history: the user's items.
        user: the user's id, used only in the check.
    """

    item: Item
    evidence: Evidence
    reason: Reason
    history: tuple[Item, ...]
    user: str = ""


@dataclass(frozen=True, slots=True)
class Explanation:
    """One explanation.

    Attributes:
        text: the text that is shown.
        cited: the evidence that it names.
        source: who wrote it.
        problems: the faults of the model's last text, if it was replaced.
        claims: the claims about the item that the evidence supports.
    """

    text: str
    cited: tuple[Item, ...]
    source: Source = "sentence"
    problems: tuple[str, ...] = ()
    claims: tuple[Claim, ...] = ()


def load_templates(run: Path | None = None) -> dict[Language, TextTemplate]:
    """Return the explanation templates by language: those saved with a run, or those that genrec ships.

    Raises:
        PromptError: a run's template is wrong.
    """
    saved = {language: run / f"{name}.toml" for language, name in TEMPLATES.items()} if run else {}
    return {
        language: load_text_template(str(saved[language]) if language in saved and saved[language].exists() else name)
        for language, name in TEMPLATES.items()
    }


def prompt_values(
    template: TextTemplate, item: Item, evidence: Evidence, wording: Wording, reason: Reason
) -> dict[str, str]:
    """Return the values for the variables that an explanation template has.

    Args:
        template: the template of the prompt; templates of older runs have no `reason`.
        item: the recommended item.
        evidence: the evidence for it.
        wording: how the text is to be worded.
        reason: the grammar's reason for it.
    """
    style = _STYLE[wording.language]
    said = [*item.categories, *(value for name, value in item.attributes.items() if name in ("year", "brand"))]
    attributes = style["attributes"].format_map({"values": style["comma"].join(said[:4])}) if said else ""
    values = {
        "evidence": shipped_style(wording.language).names(evidence.items),
        "item": quoted(item),
        "attributes": attributes,
        "length": style[wording.length],
        "tone": style[wording.tone],
        "reason": reason.text,
    }
    return {name: values[name] for name in values if name in variables(template.text)}


def sentence_of(request: Request, problems: Sequence[str] = ()) -> Explanation:
    """Return the grammar's sentence as an explanation, without a model."""
    reason = request.reason
    return Explanation(reason.text, reason.cited, "sentence", tuple(problems), reason.claims)


def sample_requests(catalog: Catalog, language: Language) -> list[Request]:
    """Return a few requests over a catalogue's first items, each explained by the one before it."""
    items = catalog.items[: SAMPLE + 1]
    grammar = Grammar(CatalogueFacts(Catalog(items)), shipped_style(language), item_first=True)
    requests = []
    for before, item in itertools.pairwise(items):
        evidence = Evidence((before,), "moved")
        (reason,) = grammar.reasons([item], [evidence], [before])
        requests.append(Request(item, evidence, reason, (before,)))
    return requests


def judged(checker: Checker, request: Request, text: str, wording: Wording, attempt: int) -> Explanation:
    """Return a model's text if it passes the check, or else the sentence.

    Args:
        checker: checks the text.
        request: the recommendation that is explained.
        text: the model's text.
        wording: the requested wording.
        attempt: 0 for the first.
    """
    evidence = request.evidence.items
    problems = checker.problems(
        text, request.item, request.history, evidence, request.user, request.reason.claims, wording.language
    )
    if problems:
        return sentence_of(request, problems)
    cited = tuple(item for item in evidence if name_of(item) in named(text))
    return Explanation(text, cited, "rewritten" if attempt else "words", (), request.reason.claims)


class Writer:
    """Writes explanations with one model.

    Args:
        generator: the language model, writing freely.
        checker: checks the texts.
        templates: the templates of the prompts, by language.
    """

    def __init__(self, generator: FreeGenerator, checker: Checker, templates: dict[Language, TextTemplate]) -> None:
        self._generator = generator
        self._checker = checker
        self._templates = templates
        self._usual: dict[Language, float] = {}
        tokenizer = generator.tokenizer
        ends = [tokenizer.eos_token_id, generator.stop]
        self._stops = [int(end) for end in dict.fromkeys(ends) if end is not None]
        self._context = getattr(generator.model.config, "max_position_embeddings", None) or math.inf

    def write(self, requests: Sequence[Request], wording: Wording, batch_size: int = 32) -> list[Explanation]:
        """Write one explanation for each request; the other requests do not change the result.

        Args:
            requests: the recommendations to explain; a request without evidence gets the grammar's sentence.
            wording: how the texts are worded.
            batch_size: how many texts are written together at most.
        """
        tokenizer, template = self._generator.tokenizer, self._templates[wording.language]
        done = [sentence_of(request) for request in requests]
        waiting = [place for place, request in enumerate(requests) if request.evidence.items]
        prompts = {
            place: encode_text(template, tokenizer, _values(template, requests[place], wording)) for place in waiting
        }
        for place in [place for place in waiting if len(prompts[place]) + MOST_TOKENS[wording.length] > self._context]:
            done[place] = sentence_of(requests[place], ["the model's context is too short for a text"])
            waiting.remove(place)
        for attempt in range(ATTEMPTS):
            failed = []
            for batch in batches_by_length([len(prompts[place]) for place in waiting], batch_size):
                places = [waiting[entry] for entry in batch]
                texts = self._attempt(
                    [requests[place] for place in places], [prompts[place] for place in places], wording, attempt
                )
                for place, text in zip(places, texts, strict=True):
                    done[place] = judged(self._checker, requests[place], text, wording, attempt)
                self._replace_nonsense(
                    [place for place in places if done[place].source != "sentence"], done, requests, prompts, wording
                )
                for place in places:
                    if done[place].source == "sentence":
                        failed.append(place)
            waiting = sorted(failed)
        return done

    def _replace_nonsense(
        self,
        places: Sequence[int],
        done: list[Explanation],
        requests: Sequence[Request],
        prompts: Mapping[int, Sequence[int]],
        wording: Wording,
    ) -> None:
        """Replace texts that passed the check, but have too much surprise under the model that wrote them."""
        for place in places:
            surprise = self._surprise(prompts[place], done[place].text)
            limit = SURPRISE * self._usual_surprise(wording.language)
            if surprise > limit:
                problem = f"it is nonsense to its writer: {surprise:.1f} nats a token, where {limit:.1f} are allowed"
                done[place] = sentence_of(requests[place], [problem])

    def _usual_surprise(self, language: Language) -> float:
        """Return the median surprise of the grammar's sentences; it does not depend on the batch."""
        if language not in self._usual:
            wording, template = Wording(language), self._templates[language]
            found = []
            for request in sample_requests(self._checker.catalog, language):
                prompt = encode_text(template, self._generator.tokenizer, _values(template, request, wording))
                if len(prompt) + MOST_TOKENS["short"] <= self._context:
                    found.append(self._surprise(prompt, request.reason.text))
            self._usual[language] = statistics.median(found) if found else math.inf
        return self._usual[language]

    def _surprise(self, prompt: Sequence[int], text: str) -> float:
        tokens = encode_quoting(self._generator.tokenizer, text)
        fits = len(prompt) + len(tokens) <= self._context
        return self._generator.surprise(prompt, tokens) if fits else 0.0

    def _attempt(
        self, requests: Sequence[Request], prompts: Sequence[Sequence[int]], wording: Wording, attempt: int
    ) -> list[str]:
        tokenizer = self._generator.tokenizer
        slots = [
            [encode_quoting(tokenizer, f"{name_of(item)}”") for item in request.evidence.items] for request in requests
        ]
        leads = [encode_quoting(tokenizer, quoted(request.item)) for request in requests]
        noise = [_own_generator(prompt, attempt) if attempt else None for prompt in prompts]
        rows = self._generator.write(
            prompts,
            self._stops,
            MOST_TOKENS[wording.length],
            lambda start: _Slots(tokenizer, start, leads, slots, noise, self._stops),
        )
        texts = [str(tokenizer.decode(row, skip_special_tokens=True)) for row in rows]
        return [tidied(text, MOST_SENTENCES[wording.length]) for text in texts]


def _values(template: TextTemplate, request: Request, wording: Wording) -> dict[str, str]:
    return prompt_values(template, request.item, request.evidence, wording, request.reason)


class _Slots(LogitsProcessor):  # type: ignore[misc]
    """Starts every row with its lead, then lets it continue freely; after an opening quotation mark only names follow.

    Args:
        tokenizer: decodes what was written.
        start: where in each row the new tokens begin.
        leads: the tokens that each row begins with.
        slots: for each row, the tokens of the names that it may write, once each, with their closing marks.
        noise: for each row, the generator to sample from; None: take the most likely token.
        stops: the tokens that end a text.
    """

    def __init__(
        self,
        tokenizer: Any,
        start: int,
        leads: Sequence[tuple[int, ...]],
        slots: Sequence[Sequence[tuple[int, ...]]],
        noise: Sequence[torch.Generator | None],
        stops: Sequence[int],
    ) -> None:
        self._tokenizer = tokenizer
        self._start = start
        self._leads = leads
        self._slots = [list(own) for own in slots]
        self._noise = noise
        self._stops = stops
        self._special = set(tokenizer.all_special_ids)
        self._free_since = [len(lead) for lead in leads]  # where the last name ended
        self._opened: list[int | None] = [None] * len(slots)  # where the name being written began

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return scores that are 0 for each row's next token and minus infinity for all others."""
        scores = scores.float()
        for row, generator in enumerate(self._noise):
            if generator is not None:
                # The largest log-probability after adding Gumbel noise is a sample in proportion to the probabilities.
                drawn = torch.rand(scores.shape[1], generator=generator).clamp_(1e-10, 1 - 1e-7)
                scores[row] = scores[row].log_softmax(dim=-1) - (-drawn.log()).log().to(scores.device)
        chosen = [
            self._next(row, written, scores[row]) for row, written in enumerate(input_ids[:, self._start :].tolist())
        ]
        place = torch.tensor(chosen, device=scores.device)[:, None]
        return torch.full_like(scores, -torch.inf).scatter(1, place, 0.0)

    def _next(self, row: int, written: list[int], scores: Tensor) -> int:
        """Return the best token that may come next."""
        if set(written[-1:]) & set(self._stops):
            return self._stops[0]  # finished; the rest is padding
        if len(written) < len(self._leads[row]):
            return self._leads[row][len(written)]
        opened = self._opened[row]
        if opened is None:
            text = str(self._tokenizer.decode(written[self._free_since[row] :]))
            if not text.endswith("“"):
                return self._free(row, written, text, scores)
            opened = self._opened[row] = len(written)
        begun = tuple(written[opened:])
        if begun in self._slots[row]:
            self._slots[row].remove(begun)
            self._opened[row], self._free_since[row] = None, len(written)
            return self._free(row, written, "", scores)
        allowed = sorted({slot[len(begun)] for slot in self._slots[row] if slot[: len(begun)] == begun})
        return allowed[int(scores[allowed].argmax())] if allowed else self._stops[0]

    def _free(self, row: int, written: list[int], text: str, scores: Tensor) -> int:
        """Return the best token outside names; it must not add another quotation mark, whole or in pieces."""
        since = written[self._free_since[row] :]
        best: list[int] = scores.topk(min(_TRIES, len(scores))).indices.tolist()
        for token in best:
            if token in self._stops:
                return token
            fresh = str(self._tokenizer.decode([*since, token]))[len(text.rstrip("\ufffd")) :].rstrip("\ufffd")
            opens = fresh.endswith("“") and bool(self._slots[row])
            inside = fresh[:-1] if opens else fresh
            if token not in self._special and not FOREIGN_MARKS.search(inside) and not set("“”") & set(inside):
                return token
        return self._stops[0]


def tidied(text: str, sentences: int) -> str:
    """Return a text's first complete sentences in one line; an empty text if there is none.

    An end mark within a name does not end a sentence. A blank after an opening mark, as some tokenizers write it, is
    removed.
    """
    line = re.sub("“ +", "“", " ".join(text.split()))
    line = re.sub(" +(?=[.,;:!?”])", "", line)
    hidden = re.sub("“[^“”]*”?", lambda match: "_" * len(match.group()), line)
    ends = [match.end() for match in _SENTENCE_END.finditer(hidden)][:sentences]
    return line[: ends[-1]] if ends else ""


def _own_generator(prompt: Sequence[int], seed: int) -> torch.Generator:
    """Return the generator of one text; it depends only on the text's prompt and the seed."""
    digest = hashlib.sha256(f"{seed} {list(prompt)}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
