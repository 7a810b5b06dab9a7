"""The recommender: a finished run folder in memory, from histories to ranked items.

For each user the language model's items (found under the catalogue's constraint, or written freely and grounded) and
the co-occurrence signal's items are fused into one list. Whatever happens, exactly k distinct catalogue items come
back while the catalogue has them; what neither list reaches is filled by popularity.

The easy mistake is to trust batches: prompts of one batch are of similar length, and results are put back by place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from genrec.catalog import Catalog, Item, normalise_label
from genrec.decoding import Decoder, Found, batches_by_length
from genrec.errors import DataError
from genrec.explanation import evidence_sentence, nearest_evidence
from genrec.free_generation import FreeGenerator
from genrec.ranking import fuse_reciprocal_ranks
from genrec.recommendation import How, Recommendation
from genrec.signals import Content, CoOccurrence, Popularity
from genrec.splits import History
from prompts.encoding import Prompt, PromptEncoder
from retrieval.grounding import Grounder
from retrieval.index import ItemIndex

Mode = Literal["constrained", "free"]
Taken = str | Item

EXPLAINED_HISTORY = 50
"""How many of the newest history items are looked at for evidence."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How to recommend.

    Attributes:
        k: how many items for each user.
        beams: how many beams the language model holds; at least k are used.
        mode: `constrained` searches the catalogue's trie; `free` writes any text and grounds it.
        exclude_seen: whether items of the history are left out.
        explain: whether each recommendation gets its sentence.
        batch_size: how many users at most are decoded side by side; it changes the speed, not the result.
        systems: which lists are fused, of `lm` and `co-occurrence`.
    """

    k: int = 10
    beams: int = 20
    mode: Mode = "constrained"
    exclude_seen: bool = True
    explain: bool = False
    batch_size: int = 32
    systems: tuple[str, ...] = ("lm", "co-occurrence")


@dataclass(slots=True)
class Recommender:
    """Recommends items of one catalogue. Make one with `Recommender.from_pretrained`.

    Attributes:
        catalog: the items.
        encoder: histories to tokens.
        decoder: the language model under the catalogue's constraint.
        generator: the language model writing freely.
        co_occurrence: the collaborative signal.
        popularity: the popularity signal.
        index: item vectors.
        load_grounder: makes the grounder when free generation first asks for it.
        details: what the run's manifest says of it.
    """

    catalog: Catalog
    encoder: PromptEncoder
    decoder: Decoder
    generator: FreeGenerator
    co_occurrence: CoOccurrence
    popularity: Popularity
    index: ItemIndex
    load_grounder: Callable[[], Grounder]
    details: dict[str, Any] = field(default_factory=dict)
    _grounder: Grounder | None = None
    _content: Content | None = None
    _titles: dict[str, str] | None = None

    @classmethod
    def from_pretrained(cls, run: str | Path, device: str | None = None, precision: str = "auto") -> Recommender:
        """Load a finished run folder.

        Args:
            run: the folder that `genrec train` made.
            device: where the model runs; see `training.backbone.choose_device`.
            precision: "auto", "bf16" or "fp32".

        Raises:
            ArtefactError: the folder is missing, unfinished or damaged.
            ModelError: the base model that the run names is not here.
        """
        from genrec.runs import load_recommender

        return load_recommender(Path(run), device, precision)

    def recommend(self, history: Sequence[Taken], k: int = 10, **settings: Any) -> list[Recommendation]:
        """Recommend for one history.

        Args:
            history: items, item ids or titles, oldest first; may be empty.
            k: how many.
            settings: any field of `Settings`; explanations are given unless switched off.

        Raises:
            DataError: something in the history is not in the catalogue.
        """
        chosen = Settings(**{"k": k, "explain": True, **settings})
        return self.recommend_many([History("", tuple(map(self.find, history)))], chosen)[0]

    def recommend_many(self, histories: Sequence[History], settings: Settings) -> list[list[Recommendation]]:
        """Recommend for many histories; the same for each as if it came alone.

        Raises:
            DataError: a history holds an item that is not in the catalogue.
        """
        return self.recommend_with_model_alone(histories, settings)[0]

    def recommend_with_model_alone(
        self, histories: Sequence[History], settings: Settings
    ) -> tuple[list[list[Recommendation]], list[list[str]]]:
        """Recommend for many histories, and say what the language model would have recommended by itself.

        Returns:
            For each history its recommendations, and the ids of the model's own best k items.

        Raises:
            DataError: a history holds an item that is not in the catalogue.
        """
        rows = [self.catalog.rows(history.items) for history in histories]
        nothing = np.zeros(0, np.int64)
        seen = [np.unique(np.array(user, np.int64)) if settings.exclude_seen else nothing for user in rows]
        found, texts = self._from_model(rows, seen, settings)
        results: list[list[Recommendation]] = []
        for start in range(0, len(histories), settings.batch_size):
            part = slice(start, start + settings.batch_size)
            results += self._rank(histories[part], rows[part], seen[part], found[part], texts[part], settings)
        ids = self.catalog.ids
        return results, [[ids[row] for row in answer.rows[: settings.k]] for answer in found]

    def prompt(self, history: History) -> Prompt:
        """Return the very prompt that the model is given for a history."""
        return self.encoder.prompt([self.catalog[item].label for item in history.items])

    def find(self, taken: Taken) -> str:
        """Return an item's id from an item, an id, a label or a title.

        Raises:
            DataError: the catalogue has no such item.
        """
        name = taken.id if isinstance(taken, Item) else taken
        if name in self.catalog:
            return name
        if self._titles is None:
            self._titles = {}
            for item in reversed(self.catalog.items):
                self._titles[normalise_label(item.title)] = item.id
            self._titles.update({normalise_label(item.label): item.id for item in self.catalog})
        if (found := self._titles.get(normalise_label(name))) is not None:
            return found
        raise DataError(f"{name[:80]!r} is neither an id nor a title of the {len(self.catalog)} items of the catalogue")

    def _from_model(
        self, rows: Sequence[Sequence[int]], seen: Sequence[NDArray[np.int64]], settings: Settings
    ) -> tuple[list[Found], list[dict[int, tuple[How, str]]]]:
        """Return the language model's items for each history, and how each came about."""
        nothing = Found(np.zeros(0, np.int64), np.zeros(0, np.float32))
        found = [nothing] * len(rows)
        texts: list[dict[int, tuple[How, str]]] = [{} for _ in rows]
        if "lm" not in settings.systems:
            return found, texts
        keep = max(settings.k, settings.beams)
        labels = self.catalog.labels
        asked = [place for place, user_rows in enumerate(rows) if user_rows]
        prompts = [self.encoder.prompt([labels[row] for row in rows[place]]).input_ids for place in asked]
        for batch in batches_by_length([len(prompt) for prompt in prompts], settings.batch_size):
            places, inputs = [asked[entry] for entry in batch], [prompts[entry] for entry in batch]
            if settings.mode == "constrained":
                read = self.decoder.read(inputs)
                answers = self.decoder.search(read, keep, keep, [seen[place] for place in places])
                for place, answer in zip(places, answers, strict=True):
                    found[place] = answer
                    texts[place] = {row: ("exact", labels[row]) for row in answer.rows.tolist()}
            else:
                written = self.generator.generate(inputs, settings.beams)
                for place, generations in zip(places, written, strict=True):
                    hidden = {self.catalog.items[row].id for row in seen[place].tolist()}
                    pairs = [(generation.text, generation.score) for generation in generations]
                    scores = {text.strip(): score for text, score in reversed(pairs)}
                    matches = self.grounder.ground_generations(pairs, keep, hidden)
                    ground = [self.catalog.row(match.item) for match, _ in matches]
                    values = [scores.get(text.strip(), 0.0) for _, text in matches]
                    found[place] = Found(np.array(ground, np.int64), np.array(values, np.float32))
                    texts[place] = {row: (match.how, text) for row, (match, text) in zip(ground, matches, strict=True)}
        return found, texts

    @property
    def grounder(self) -> Grounder:
        """The grounder of free texts; its encoder is loaded at the first use."""
        if self._grounder is None:
            self._grounder = self.load_grounder()
        return self._grounder

    @property
    def content(self) -> Content:
        """The similarity of items to a history, from the index's vectors."""
        if self._content is None:
            self._content = Content(self.catalog, self.index.vectors(self.catalog.ids))
        return self._content

    def _rank(
        self,
        histories: Sequence[History],
        rows: Sequence[Sequence[int]],
        seen: Sequence[NDArray[np.int64]],
        found: Sequence[Found],
        texts: Sequence[dict[int, tuple[How, str]]],
        settings: Settings,
    ) -> list[list[Recommendation]]:
        """Fuse the lists of a block of users and write their recommendations."""
        together = self.co_occurrence.score(histories)
        alike = self.content.score(histories)
        popular = self.popularity.score(histories[:1])[0]
        results = []
        for user, answer in enumerate(found):
            lists = [answer.rows.tolist()]
            if "co-occurrence" in settings.systems:
                lists.append(best_rows(together[user], seen[user], max(settings.k, settings.beams)))
            fused = fuse_reciprocal_ranks(lists)[: settings.k]
            if len(fused) < settings.k:
                gone = np.concatenate((seen[user], np.array([row for row, _ in fused], np.int64)))
                fused += [(row, 0.0) for row in best_rows(popular + 1, gone, settings.k - len(fused))]
            likelihood = dict(zip(answer.rows.tolist(), answer.scores.tolist(), strict=True))
            recommendations = []
            for rank, (row, score) in enumerate(fused, start=1):
                how, text = texts[user].get(row, ("collaborative" if score else "popularity", ""))
                signals = {
                    "lm": likelihood.get(row),
                    "similarity": float(alike[user, row]),
                    "collaborative": float(together[user, row]),
                    "popularity": float(popular[row]),
                }
                reason = self._explain(rows[user], row) if settings.explain else ""
                recommendations.append(Recommendation(rank, self.catalog.items[row], score, signals, how, text, reason))
            results.append(recommendations)
        return results

    def _explain(self, history_rows: Sequence[int], row: int) -> str:
        recent = list(history_rows)[-EXPLAINED_HISTORY:]
        if not recent:
            return evidence_sentence(self.catalog.items[row], [], False)
        together = np.asarray(self.co_occurrence.pairs[recent][:, [row]].toarray())[:, 0]
        alike = self.content.embeddings[recent] @ self.content.embeddings[row]
        places = nearest_evidence(recent, together, alike)
        evidence = [self.catalog.items[recent[place]] for place in places]
        return evidence_sentence(self.catalog.items[row], evidence, bool(all(together[place] > 0 for place in places)))


def best_rows(scores: NDArray[np.floating], excluded: NDArray[np.int64], count: int) -> list[int]:
    """Return the rows of the best positive scores, best first, equals in catalogue order, without the excluded."""
    allowed = np.array(scores, np.float64)
    allowed[excluded] = 0
    positive = np.flatnonzero(allowed > 0)
    if len(positive) > 4 * count:
        floor = np.partition(allowed[positive], -count)[-count]
        positive = positive[allowed[positive] >= floor]
    order = np.argsort(-allowed[positive], kind="stable")[:count]
    return [int(row) for row in positive[order]]
