"""The language model of a run, asked for items: found under the catalogue's constraint, or written and grounded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from genrec.data.catalog import Catalog
from genrec.data.rows import IntArray
from genrec.data.splits import History
from genrec.language.decoder import Decoder, Found, batches_by_length
from genrec.language.generator import FreeGenerator
from genrec.language.prompt_reading import Prompts
from genrec.recommendation import How
from prompts.encoding import Prompt, PromptEncoder
from retrieval.grounding import Grounder


@dataclass(frozen=True, slots=True)
class Proposal:
    """What the language model found by itself for one user.

    Attributes:
        found: the items, best first.
        texts: by item row, how the item came about and the text that the model wrote.
    """

    found: Found
    texts: Mapping[int, tuple[How, str]]

    @classmethod
    def nothing(cls) -> Proposal:
        """Return what is found where the model is not asked."""
        return cls(Found(np.zeros(0, np.int64), np.zeros(0, np.float32)), {})


@dataclass(frozen=True, slots=True)
class Proposer:
    """Asks the language model for items.

    Attributes:
        catalog: the items.
        encoder: histories to tokens.
        decoder: the model under the catalogue's constraint.
        generator: the model writing freely.
        grounder: gives what finds the items of free texts; called when a text is first written.
    """

    catalog: Catalog
    encoder: PromptEncoder
    decoder: Decoder
    generator: FreeGenerator
    grounder: Callable[[], Grounder]

    def prompt(self, history: History) -> Prompt:
        """Return the very prompt that the model is given for a history; a taste stands where the oldest item would."""
        taste = [history.taste] if history.taste else []
        return self.encoder.prompt([*taste, *(self.catalog[item].label for item in history.items)])

    def batches(self, prompts: Sequence[Sequence[int]], batch_size: int) -> Iterator[list[int]]:
        """Yield the places of prompts that are to be read together: of similar length, within the device's limits."""
        yield from batches_by_length([len(prompt) for prompt in prompts], *self.decoder.limits(batch_size))

    def propose_exact(self, read: Prompts, beams: int, excluded: Sequence[IntArray]) -> list[Proposal]:
        """Return each user's most likely items, by a search of the catalogue's trie.

        Args:
            read: the prompts, as the decoder has read them.
            beams: how many beams are held, and how many items at most come back.
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
        """Return the items that are nearest to what the model writes where nothing holds it back.

        Args:
            prompts: the prompts.
            beams: how many texts are written for each user.
            most: how many items at most come back.
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
