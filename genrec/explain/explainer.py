"""From recommendations to explanations: which evidence is looked for, and who puts it into words.

Three ways, from cheap to dear: what stands near the item (two look-ups), what moved the language model (measured by
leaving items out, a fraction of a second for each user), and the same in the model's own words (a text for each
recommendation). See `genrec.explain.evidence.Explain`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from genrec.data.catalog import Catalog, Item
from genrec.data.history_batch import HistoryBatch
from genrec.data.splits import History
from genrec.explain.check import Checker
from genrec.explain.evidence import (
    MOST_EVIDENCE,
    Evidence,
    Explain,
    Kind,
    Language,
    Length,
    Wording,
    measured_evidence,
    nearest_evidence,
)
from genrec.explain.facts import CatalogueFacts
from genrec.explain.grammar import Grammar
from genrec.explain.influence import influences
from genrec.explain.style import parse_style, shipped_style
from genrec.explain.writer import Explanation, Request, Writer, sentence_of
from genrec.explain.writers import EndpointWriter, load_writer
from genrec.language.decoder import Decoder
from genrec.language.generator import FreeGenerator
from genrec.signals.borrowing import counted_part
from genrec.signals.people import People
from genrec.signals.registry import people_of_signals
from genrec.signals.simple import Content, CoOccurrence, Popularity, Signal
from prompts.encoding import PromptEncoder
from prompts.template import TextTemplate
from training.computing import Computing

ALIKE = 0.3
"""The least cosine of two titles that are called close in kind."""

POPULAR = 0.05
"""The share of the items that are called popular where it is not known how many people took them."""

EXPLAINED_HISTORY = 50
"""How many of the newest history items are looked at for evidence near the item."""


@dataclass(eq=False)
class Explainer:
    """Explains recommendations of one recommender.

    Attributes:
        catalog: the items.
        encoder: histories to tokens.
        decoder: the language model under the catalogue's constraint.
        generator: the language model writing freely.
        signals: every other kind of evidence, by name; "collaborative", "similarity" and "popularity" are among them.
        templates: what the model is asked with for words, by language.
        known: how many of the items, the first ones, were there at the training.
    """

    catalog: Catalog
    encoder: PromptEncoder
    decoder: Decoder
    generator: FreeGenerator
    signals: Mapping[str, Signal]
    templates: dict[Language, TextTemplate]
    known: int

    def explain(
        self,
        histories: Sequence[History],
        recommended: Sequence[Sequence[Item]],
        how: Explain,
        wording: Wording,
        batch_size: int = 32,
        writer: str = "",
    ) -> list[list[Explanation]]:
        """Explain every user's recommendations; the same for each as if it came alone.

        Args:
            histories: whose.
            recommended: each user's items.
            how: where evidence comes from, and who words it.
            wording: how it is worded.
            batch_size: how many texts are written side by side.
            writer: who words it where `how` is "words"; see `genrec.explain.writers`. The recommending model where
                left out.

        Returns:
            For each user one explanation for each item; none at all where `how` is "none".

        Raises:
            ConfigError: the writer's address is none.
            ModelError: the writer is not here, or cannot be loaded.
        """
        if how == "none":
            return [[] for _ in histories]
        requests: list[Request] = []
        grammar, batch = self.grammar(wording), HistoryBatch.of(self.catalog, histories)
        for user, (history, items) in enumerate(zip(batch, recommended, strict=True)):
            rows = batch.rows_of(user).tolist()
            own = tuple(self.catalog.items[row] for row in rows)
            found = self._evidence(history, rows, items, how, wording.length)
            told = grammar.reasons(items, found, own, wording.tone, wording.length, history.taste)
            requests += [
                Request(item, evidence, reason, own, history.user)
                for item, evidence, reason in zip(items, found, told, strict=True)
            ]
        if how == "words":
            explained = self.writer(writer).write(requests, wording, batch_size)
        else:
            explained = [sentence_of(request) for request in requests]
        ordered = iter(explained)
        return [[next(ordered) for _ in items] for items in recommended]

    def grammar(self, wording: Wording) -> Grammar:
        """Return what puts evidence into words in a style.

        Raises:
            ConfigError: the style is none.
        """
        style = parse_style(wording.style) if wording.style else shipped_style(wording.language)
        row, people = self.catalog.row, self.people
        popularity = self.signals["popularity"]
        assert isinstance(popularity, Popularity)  # noqa: S101 - for the type checker
        popular = popularity.scores > np.quantile(popularity.scores, 1 - POPULAR)
        return Grammar(
            self.facts,
            style,
            None if people is None else lambda item, other: people.of_both(row(other.id), row(item.id)),
            None if people is None else lambda item: int(people.takers[row(item.id)]),
            lambda item: row(item.id) >= self.known,
            lambda item: bool(popular[row(item.id)]),
        )

    @cached_property
    def co_occurrence(self) -> CoOccurrence:
        """What is taken near each other.

        What an added item borrows ranks it; to say that people chose it with another would be untrue.
        """
        signal = self.signals["collaborative"]
        assert isinstance(signal, CoOccurrence)  # noqa: S101 - for the type checker
        return counted_part(signal, self.known)

    @cached_property
    def content(self) -> Content:
        """What is alike."""
        signal = self.signals["similarity"]
        assert isinstance(signal, Content)  # noqa: S101 - for the type checker
        return signal

    @cached_property
    def people(self) -> People | None:
        """How many people took what; None where the log does not say."""
        return people_of_signals(self.signals, self.known)

    @cached_property
    def facts(self) -> CatalogueFacts:
        """What the catalogue says of its items; read at the first use."""
        return CatalogueFacts(self.catalog)

    def writer(self, name: str = "") -> Writer | EndpointWriter:
        """Return who writes words, by name; made at the first use, since it looks through the whole catalogue.

        Raises:
            ConfigError: the writer's address is none.
            ModelError: the writer is not here, or cannot be loaded.
        """
        if name not in self._writers:
            checker = Checker(self.catalog)
            self._writers[name] = (
                load_writer(name, checker, self.templates, Computing.of(self.generator.model))
                if name
                else Writer(self.generator, checker, self.templates)
            )
        return self._writers[name]

    @cached_property
    def _writers(self) -> dict[str, Writer | EndpointWriter]:
        return {}

    def _evidence(
        self, history: History, rows: Sequence[int], items: Sequence[Item], how: Explain, length: Length
    ) -> list[Evidence]:
        """Return what speaks for each item.

        Args:
            history: whose.
            rows: the history's item rows, oldest first.
            items: what is recommended.
            how: where evidence comes from.
            length: of the wording.
        """
        if history.basis != "items":
            return [Evidence((), "taste" if history.basis == "taste" else "popular") for _ in items]
        most = MOST_EVIDENCE[length]
        taken = set(history.items)
        nearest = [near_item(self.co_occurrence, self.content, rows, item, most) for item in items]
        if how == "sentence":
            return nearest
        ids = [item.id for item in items]
        moved = influences(self.catalog, self.encoder, self.decoder, history.items, ids)
        measured = [measured_evidence(one, most) for one in moved]
        # Where every item spoke against it, the language model had no part in it: what stands near the item did.
        return [
            own if own.items and item.id not in taken else near
            for item, own, near in zip(items, measured, nearest, strict=True)
        ]


def near_item(
    co_occurrence: CoOccurrence, content: Content, history_rows: Sequence[int], item: Item, most: int = 2
) -> Evidence:
    """Return the evidence that stands near an item: taken near it by other people, or alike.

    Args:
        co_occurrence: what is taken near each other.
        content: what is alike.
        history_rows: the history's item rows, oldest first.
        item: what is recommended.
        most: how many items at most.
    """
    catalog, recent = co_occurrence.catalog, list(history_rows)[-EXPLAINED_HISTORY:]
    if not recent:
        return Evidence((), "popular")
    row = catalog.row(item.id)
    if row in history_rows:
        return Evidence((), "again")
    together = np.asarray(co_occurrence.pairs[recent][:, [row]].toarray())[:, 0]
    alike = content.embeddings[recent] @ content.embeddings[row]
    taken = np.flatnonzero(together > 0)
    if len(taken):  # only these can be called so
        together, alike, recent = together[taken], alike[taken], [recent[place] for place in taken]
    places = nearest_evidence(recent, together, alike, most)
    evidence = tuple(catalog.items[recent[place]] for place in places)
    strengths = tuple(max(float(together[place] / (together.max() or 1.0) + alike[place]), 1e-6) for place in places)
    near: Kind = "alike" if all(alike[place] >= ALIKE for place in places) else "given"
    return Evidence(evidence, "together" if len(taken) else near, strengths)
