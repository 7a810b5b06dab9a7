"""The language model of a run as a source of items: by constrained decoding, or by free decoding and grounding."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from genrec.data.catalog import Catalog
from genrec.data.rows import IntArray
from genrec.data.splits import History
from genrec.language.decoder import Decoder, Found
from genrec.language.generator import FreeGenerator
from genrec.language.prompt_reading import Prompts
from genrec.recommendation import How
from prompts.encoding import Prompt, PromptEncoder
from retrieval.grounding import Grounder


@dataclass(frozen=True, slots=True)
class Proposal:
    """The items that the language model found for one user.

    Attributes:
        found: the items, best first.
        texts: by item row, how the item came about and the text that the model wrote.
    """

    found: Found
    texts: Mapping[int, tuple[How, str]]

    @classmethod
    def nothing(cls) -> Proposal:
        """Return an empty result, for jobs that do not use the model."""
        return cls(Found(np.zeros(0, np.int64), np.zeros(0, np.float32)), {})


@dataclass(frozen=True, slots=True)
class Proposer:
    """Finds items with the language model.

    Attributes:
        catalog: the items.
        encoder: histories to tokens.
        decoder: the model under the catalogue's constraint.
        generator: the model writing freely.
        grounder: returns the object that finds the items of free texts; called when the first text is written.
    """

    catalog: Catalog
    encoder: PromptEncoder
    decoder: Decoder
    generator: FreeGenerator
    grounder: Callable[[], Grounder]

    def prompt(self, history: History) -> Prompt:
        """Return the model's prompt for a history; a taste stands in the place of the oldest item."""
        taste = [history.taste] if history.taste else []
        return self.encoder.prompt([*taste, *(self.catalog[item].label for item in history.items)])

    def batches(self, prompts: Sequence[Sequence[int]], batch_size: int) -> Iterator[list[int]]:
        """Yield the indices of prompts to read together: of similar length, within the device's limits."""
        yield from self.decoder.batches(prompts, batch_size)

    def propose_exact(self, read: Prompts, beams: int, excluded: Sequence[IntArray]) -> list[Proposal]:
        """Return each user's most likely items, by a search of the catalogue's trie.

        Args:
            read: the prompts, as the decoder has read them.
            beams: the number of beams, and the most items to return.
            excluded: each user's item rows that must not come back.
        """
        labels = self.catalog.labels
        return [
            Proposal(found, {row: ("exact", labels[row]) for row in found.rows.tolist()})
            for found in self.decoder.search(read, beams, beams, excluded)
        ]

    def propose_free(
        self, prompts: Sequence[Sequence[int]], beams: int, most: int, excluded: Sequence[IntArray]
    ) -> list[Proposal]:
        """Return the items that are nearest to the texts that the model writes without a constraint.

        Args:
            prompts: the prompts.
            beams: the number of texts for each user.
            most: the most items to return.
            excluded: each user's item rows that must not come back.
        """
        proposals = []
        for generations, rows in zip(self.generator.generate(prompts, beams), excluded, strict=True):
            hidden = {self.catalog.items[row].id for row in rows.tolist()}
            pairs = [(generation.text, generation.score) for generation in generations]
            scores = {text.strip(): score for text, score in reversed(pairs)}
            matches = self.grounder().ground_generations(pairs, most, hidden)
            ground = [self.catalog.row(match.item) for match, _ in matches]
            values = [scores.get(text.strip(), 0.0) for _, text in matches]
            texts = {row: (match.how, text) for row, (match, text) in zip(ground, matches, strict=True)}
            proposals.append(Proposal(Found(np.array(ground, np.int64), np.array(values, np.float32)), texts))
        return proposals
