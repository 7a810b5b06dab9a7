"""From recommendations to explanations: which evidence is used, and who puts it into words.

There are three ways, from cheap to expensive: history items near the recommended item (two look-ups); history items
that moved the language model (measured by leaving items out, a fraction of a second for each user); and the same
evidence in the model's own words (one generated text for each recommendation). See `genrec.explain.evidence.Explain`.
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
"""The share of the items that are called popular if it is not known how many people took them."""

EXPLAINED_HISTORY = 50
"""How many of the newest history items are searched for evidence near the item."""


@dataclass(eq=False)
class Explainer:
    """Explains recommendations of one recommender.

    Attributes:
        catalog: the items.
        encoder: turns histories into tokens.
        decoder: the language model under the catalogue's constraint.
        generator: the language model, writing freely.
        signals: every other kind of evidence, by name; "collaborative", "similarity" and "popularity" are among them.
        templates: the templates of the explanation prompts, by language.
        known: how many items the catalogue had at the training; later ones follow them.
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
        """Explain every user's recommendations; the other users do not change the result.

        Args:
            histories: the users' histories.
            recommended: each user's recommended items.
            how: where the evidence comes from, and who words it.
            wording: how it is worded.
            batch_size: how many texts are written together.
            writer: who words it if `how` is "words"; see `genrec.explain.writers`. The recommending model if left out.

        Returns:
            For each user, one explanation for each item; none if `how` is "none".

        Raises:
            ConfigError: the writer's address is not valid.
            ModelError: the writer is not found, or cannot be loaded.
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
        """Return the grammar, which puts evidence into words in a style.

        Raises:
            ConfigError: the style is not valid.
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
        """The items that are taken near each other.

        Borrowed evidence is excluded. It may rank a new item, but nobody took that item together with another.
        """
        signal = self.signals["collaborative"]
        assert isinstance(signal, CoOccurrence)  # noqa: S101 - for the type checker
        return counted_part(signal, self.known)

    @cached_property
    def content(self) -> Content:
        """The similarity of titles."""
        signal = self.signals["similarity"]
        assert isinstance(signal, Content)  # noqa: S101 - for the type checker
        return signal

    @cached_property
    def people(self) -> People | None:
        """How many people took each item; None if the log does not show it."""
        return people_of_signals(self.signals, self.known)

    @cached_property
    def facts(self) -> CatalogueFacts:
        """The facts about the catalogue's items; read at the first use."""
        return CatalogueFacts(self.catalog)

    def writer(self, name: str = "") -> Writer | EndpointWriter:
        """Return a writer by its name; made at the first use, since it reads the whole catalogue.

        Raises:
            ConfigError: the writer's address is not valid.
            ModelError: the writer is not found, or cannot be loaded.
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
        """Return the evidence for each item.

        Args:
            history: the user's history.
            rows: the history's item rows, oldest first.
            items: the recommended items.
            how: where the evidence comes from.
            length: the length of the wording.
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
        # If every item moved the model away from it, the evidence near the item is used instead.
        return [
            own if own.items and item.id not in taken else near
            for item, own, near in zip(items, measured, nearest, strict=True)
        ]


def near_item(
    co_occurrence: CoOccurrence, content: Content, history_rows: Sequence[int], item: Item, most: int = 2
) -> Evidence:
    """Return the evidence near an item: history items that other people took near it, or with a similar title.

    Args:
        co_occurrence: the items that are taken near each other.
        content: the similarity of titles.
        history_rows: the history's item rows, oldest first.
        item: the recommended item.
        most: the largest number of items.
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
