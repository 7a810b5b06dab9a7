"""Training examples of explanations: a history, the item that the user took next, and a reason.

The reason is the user's own (from a review, for example) if it exists and passes the check; otherwise it is the
sentence made from the evidence. The evidence is the items that other people took close to the item, because there is no
trained model yet by which to measure it. In use the evidence is measured, which makes the learnt sentences true.

Reviews that fail the check are not learnt: they name facts that the check would reject later.
"""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

import numpy as np

from genrec.data.catalog import Catalog, clean_title
from genrec.data.splits import History
from genrec.errors import DataError
from genrec.explain.check import Checker
from genrec.explain.evidence import MOST_EVIDENCE, Evidence, Language, Length, Tone, Wording
from genrec.explain.explainer import near_item
from genrec.explain.facts import CatalogueFacts
from genrec.explain.grammar import Grammar
from genrec.explain.names import quoted
from genrec.explain.style import shipped_style
from genrec.explain.writer import load_templates, prompt_values
from genrec.signals.simple import Content, CoOccurrence
from prompts.encoding import Example, PromptEncoder
from prompts.free_text import text_example

logger = logging.getLogger(__name__)

Reasons = Mapping[tuple[str, str], str]
"""Reasons by user and item."""


def explanation_examples(
    encoder: PromptEncoder,
    catalog: Catalog,
    histories: Sequence[History],
    language: Language,
    reasons: Reasons | None = None,
    seed: int = 0,
) -> list[Example]:
    """Return one example for every reason, and one at a random position of each history without a reason.

    Args:
        encoder: its tokenizer and family determine the form of the examples.
        catalog: the items.
        histories: training histories.
        language: the language of prompts and sentences.
        reasons: users' own reasons; a reason that fails the check is replaced by a sentence.
        seed: the seed of positions, tones and lengths.
    """
    reasons = reasons or {}
    draw = random.Random(seed)  # noqa: S311 - not cryptography
    template = load_templates()[language]
    checker = Checker(catalog) if reasons else None
    near = CoOccurrence.fit(catalog, histories, window=20)
    alike = Content(catalog, np.zeros((len(catalog), 1), np.float32))  # no similarities are known yet
    facts, style = CatalogueFacts(catalog), shipped_style(language)
    # The prompt states the facts in one form and the answer in another, because copying would teach nothing.
    known, grammar = Grammar(facts, style), Grammar(facts, style, item_first=True)
    examples: list[Example] = []
    passed = 0
    for history in histories:
        places = [place for place, item in enumerate(history.items) if place and (history.user, item) in reasons]
        if not places and len(history.items) > 1:
            places = [draw.randrange(1, len(history.items))]
        for place in places:
            wording = Wording(language, draw.choice(get_args(Tone)), draw.choice(get_args(Length)))
            before = [catalog[item] for item in history.items[:place]]
            item = catalog[history.items[place]]
            found = near_item(near, alike, catalog.rows(history.items[:place]), item, MOST_EVIDENCE[wording.length])
            evidence = Evidence(found.items, "moved", found.weights)
            text = clean_title(reasons.get((history.user, item.id), ""))
            told = ([item], [evidence], before, wording.tone, wording.length)
            if checker is not None and text and not checker.problems(text, item, before, user=history.user):
                passed += 1
                text = f"{quoted(item)}: {text}"  # every explanation begins with the item
            else:
                text = grammar.reasons(*told)[0].text
            values = prompt_values(template, item, evidence, wording, known.reasons(*told)[0])
            examples.append(text_example(template, encoder.tokenizer, values, text, encoder.family))
    if reasons:
        logger.info("%d of %d reasons passed the check; sentences stand in for the others", passed, len(reasons))
    fitting = [example for example in examples if len(example.input_ids) <= encoder.max_tokens]
    if len(fitting) < len(examples):
        logger.warning(
            "%d of %d explanations are longer than max_tokens=%d and are not learnt from; raise max_tokens",
            len(examples) - len(fitting),
            len(examples),
            encoder.max_tokens,
        )
    return fitting


def read_reasons(path: Path) -> dict[tuple[str, str], str]:
    """Read users' own reasons: JSON Lines of {"user": ..., "item": ..., "reason": ...}.

    Raises:
        DataError: the file cannot be read, or a line has another form.
    """
    reasons = {}
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                row = json.loads(line)
                if not isinstance(row, dict) or not {"user", "item", "reason"} <= row.keys():
                    raise DataError(f'{path}, line {number}: expected {{"user": ..., "item": ..., "reason": ...}}')
                reasons[str(row["user"]), str(row["item"])] = str(row["reason"])
    except DataError:
        raise
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as JSON Lines: {error}") from error
    return reasons
