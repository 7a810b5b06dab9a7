"""The recommender: a finished run folder in memory, from histories to ranked items.

For each user the candidates are the language model's items (found under the catalogue's constraint, or written freely
and grounded) and the items that the other signals together score highest. Every candidate gets every signal, the
model's exact log-likelihood included, and the fusion fitted on validation makes them one ranking. Whatever happens,
exactly k distinct catalogue items come back while the catalogue has them.

The easy mistake is to trust batches: prompts of one batch are of similar length, and results are put back by place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genrec.data.catalog import Catalog, Item, normalise_label
from genrec.data.rows import NO_ITEM, IntArray, tie_order, top_rows
from genrec.data.splits import History, clean_taste
from genrec.errors import ConfigError, DataError, translated
from genrec.explain.evidence import Explain, Language, Wording
from genrec.explain.explainer import Explainer
from genrec.explain.influence import Influence, Method, influences
from genrec.explain.writer import Explanation, load_templates
from genrec.language.decoder import Decoder, Found, Prompts, batches_by_length
from genrec.language.generator import FreeGenerator
from genrec.ranking.filters import Filters
from genrec.ranking.forest import shares_of
from genrec.ranking.fusion import CANDIDATES, Fusion, fuse_reciprocal_ranks, log_levels
from genrec.ranking.reranking import ItemFacts, Reranking, rerank
from genrec.ranking.taste import TasteReader
from genrec.recommendation import How, Recommendation, Recommendations
from genrec.settings import Mode, Settings, refuses_unknown_options
from genrec.signals.arrays import FloatArray
from genrec.signals.borrowing import counted_part
from genrec.signals.simple import Content, CoOccurrence, Popularity, Signal
from genrec.stock import Stock, stock_with_items
from prompts.encoding import Prompt, PromptEncoder
from prompts.template import TextTemplate
from retrieval.encoders import Encoder
from retrieval.grounding import Grounder
from retrieval.index import ItemIndex
from training.backbone import with_own_head
from training.computing import Computing
from training.recipe import Precision

Taken = str | Item

CONSIDERED = 200
"""How many items the weighted sum puts before the forest, which chooses the candidates among them."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """What one user's ranking chooses from.

    Attributes:
        rows: int64 [candidates]; item rows.
        values: float32 [candidates, signals]; what each signal says, as it says it.
        shares: float32 [candidates, signals]; the same, as shares of what the signal gives to the whole catalogue.
        length: how many items the history has.
        evidence: float32 [candidates]; what all of them together say, under the fitted weights.
        taste: float32 [candidates]; similarities to what the user says of their taste; None where nothing is said.
        likelihoods: float32 [candidates]; the model's log-likelihoods; None where it was not asked.
        found: what the language model found by itself.
        texts: for the items that the model found, how, and the text that it wrote.
    """

    rows: IntArray
    values: FloatArray
    shares: FloatArray
    length: int
    evidence: FloatArray
    taste: FloatArray | None
    likelihoods: NDArray[np.float32] | None
    found: Found
    texts: dict[int, tuple[How, str]]


@dataclass(frozen=True, slots=True)
class Ranked:
    """One user's answer, and what its parts would have answered: best first, as item ids.

    Attributes:
        recommendations: the fused ones.
        model_alone: the language model's own.
        without_model: those of the other signals.
        explanations: what each recommendation's explanation cites and who worded it; empty unless asked for.
    """

    recommendations: list[Recommendation]
    model_alone: list[str]
    without_model: list[str]
    explanations: list[Explanation] = field(default_factory=list)


_NOTHING = Found(np.zeros(0, np.int64), np.zeros(0, np.float32))
_NOTHING_WRITTEN: dict[int, tuple[How, str]] = {}


@dataclass(slots=True)
class Recommender:
    """Recommends items of one catalogue. Make one with `Recommender.from_pretrained`.

    Attributes:
        catalog: the items.
        encoder: histories to tokens.
        decoder: the language model under the catalogue's constraint.
        generator: the language model writing freely.
        signals: every other kind of evidence, by name, in the order of features.
        index: item vectors.
        load_encoder: loads the text encoder of the index when a text first asks for it.
        fusion: the fitted weights; None where none were fitted, then lists are fused by reciprocal ranks.
        details: what the run's manifest says of it.
        templates: what the model is asked with for explanations, by language.
    """

    catalog: Catalog
    encoder: PromptEncoder
    decoder: Decoder
    generator: FreeGenerator
    signals: dict[str, Signal]
    index: ItemIndex
    load_encoder: Callable[[], Encoder]
    fusion: Fusion | None = None
    details: dict[str, Any] = field(default_factory=dict)
    templates: dict[Language, TextTemplate] = field(default_factory=load_templates)
    _text_encoder: Encoder | None = None
    _grounder: Grounder | None = None
    _taste_reader: TasteReader | None = None
    _titles: dict[str, str] | None = None
    _order: IntArray | None = None
    _explainer: Explainer | None = None
    _facts: ItemFacts | None = None
    _closed: tuple[Filters, IntArray] | None = None

    @classmethod
    @translated()
    def from_pretrained(
        cls, run: str | Path, device: str | None = None, precision: Precision = "auto", *, base: str | None = None
    ) -> Recommender:
        """Load a finished run folder.

        Args:
            run: the folder that `genrec train` made.
            device: where the model runs; see `training.computing.choose_device`.
            precision: "auto", "bf16" or "fp32". It belongs to the weights in memory, so it is asked here, once, and is
                no field of `Settings`, which may change from call to call. See `training.computing`.
            base: where the base model is now, if not where the run says: a folder, a hub id or "starter". It must hold
                what it held when the run was trained.

        Raises:
            ArtefactError: the folder is missing, unfinished or damaged.
            ModelError: the base model that the run names is not here, or is another one now.
            ConfigError: the device is not on this machine, or the precision is none.
        """
        from genrec.runs.folder import load_recommender

        return load_recommender(Path(run), device, precision, base)

    @refuses_unknown_options
    @translated()
    def recommend(
        self,
        history: Sequence[Taken] = (),
        k: int = 10,
        taste: str = "",
        *,
        beams: int = 20,
        mode: Mode = "constrained",
        exclude_seen: bool | None = None,
        explain: Explain = "sentence",
        wording: Wording = Wording(),
        batch_size: int = 32,
        filters: Filters = Filters(),
        reranking: Reranking = Reranking(),
    ) -> Recommendations:
        """Recommend for one history, or for someone new.

        Args:
            history: items, item ids or titles, oldest first; may be empty.
            k: how many.
            taste: what the user says of their taste, such as "quiet science fiction from the seventies"; it is
                compared with titles and categories and stands in the prompt. See `genrec.ranking.taste`.
            beams: see `Settings`, as for the options that follow.
            mode: "constrained" or "free".
            exclude_seen: whether items of the history are left out; None: as the run was trained for.
            explain: "none", "sentence", "measured" or "words".
            wording: how explanations are worded.
            batch_size: how many texts of explanations are written side by side.
            filters: conditions that every recommended item meets.
            reranking: what is asked of the list beyond its scores.

        Returns:
            At most k recommendations, the best first: a list, which notebooks show as a table.

        Example:
            Comedies of at most 20, a varied list with no more than three of a kind:

                rec.recommend(
                    ["Toy Story"],
                    filters=Filters(only=(("category", "Comedy"),), highest_price=20),
                    reranking=Reranking(diversity=0.3, max_per_category=3),
                )

        Raises:
            DataError: something in the history is not in the catalogue, or the taste is too long.
            ConfigError: an option is unknown or impossible, the filters name what no item has, or no item passes them.
        """
        settings = Settings(k, beams, mode, exclude_seen, explain, wording, batch_size, filters, reranking)
        asked = History("", tuple(map(self.find, history)), taste=clean_taste(taste) if taste else "")
        return Recommendations(self.recommend_with_parts([asked], settings)[0].recommendations)

    @refuses_unknown_options
    @translated()
    def recommend_many(
        self,
        histories: Sequence[History | Sequence[Taken]],
        settings: Settings | None = None,
        *,
        k: int = 10,
        beams: int = 20,
        mode: Mode = "constrained",
        exclude_seen: bool | None = None,
        explain: Explain = "sentence",
        wording: Wording = Wording(),
        batch_size: int = 32,
        filters: Filters = Filters(),
        reranking: Reranking = Reranking(),
    ) -> list[Recommendations]:
        """Recommend for many histories; the same for each as if it came alone.

        Args:
            histories: of each user a `History` (which may hold a taste), or items, item ids or titles, oldest first.
            settings: all options in one object, as a job keeps them; give these or single options.
            k: see `recommend`, as for the options that follow.
            beams: likewise.
            mode: likewise.
            exclude_seen: likewise.
            explain: likewise.
            wording: likewise.
            batch_size: how many users at most are decoded side by side.
            filters: likewise.
            reranking: likewise.

        Returns:
            One list for each history, in their order.

        Raises:
            DataError: something in a history is not in the catalogue.
            ConfigError: an option is unknown or impossible, or both settings and single options are given.
        """
        options = Settings(k, beams, mode, exclude_seen, explain, wording, batch_size, filters, reranking)
        if settings is not None and options != Settings(explain="sentence"):
            raise ConfigError(["settings are given and options beside them; put the options into the Settings"])
        asked = [one if isinstance(one, History) else History("", tuple(map(self.find, one))) for one in histories]
        answers = self.recommend_with_parts(asked, settings or options)
        return [Recommendations(answer.recommendations) for answer in answers]

    @translated()
    def with_items(self, items: Sequence[Item]) -> Recommender:
        """Return a recommender that also knows new items; nothing is trained, and this one stays as it is.

        The new items can be recommended at once: the model can write their labels, the index finds them, and the
        other signals lend them what the nearest known titles have (see `genrec.stock`). The model's weights are
        shared. On disk, `genrec add-items` does the same.

        Args:
            items: items with an id and a title; categories and attributes where known.

        Raises:
            DataError: an id is given twice or known already, a title is empty, or a signal is the user's own.
        """
        stock = Stock(self.catalog, self.decoder.trie, self.index, self.signals)
        stock = stock_with_items(stock, items, self.encoder.answers, self.text_encoder.encode)
        # The old decoder's head is over the old catalogue's tokens; a new title may have others.
        model = with_own_head(self.decoder.model, self.generator.head)
        forgotten: dict[str, Any] = {entry.name: None for entry in fields(self) if entry.name.startswith("_")}
        return replace(
            self,
            catalog=stock.catalog,
            decoder=Decoder(model, stock.trie, self.decoder.normalisation, self.decoder.forced_tokens),
            generator=replace(self.generator, model=model),
            signals=stock.signals,
            index=stock.index,
            details={**self.details, "added_items": self.details.get("added_items", 0) + len(items)},
            **{**forgotten, "_text_encoder": self._text_encoder},
        )

    @translated()
    def recommend_with_parts(self, histories: Sequence[History], settings: Settings) -> list[Ranked]:
        """Recommend for many histories, and say what the language model and the other signals would have by themselves.

        Raises:
            DataError: a history holds an item that is not in the catalogue.
        """
        candidates = self.candidates(histories, settings)
        ranked = [self._rank(history, own, settings) for history, own in zip(histories, candidates, strict=True)]
        items = [[entry.item for entry in answer.recommendations] for answer in ranked]
        explained = self.explainer.explain(histories, items, settings.explain, settings.wording, settings.batch_size)
        return [_with_explanations(answer, own) for answer, own in zip(ranked, explained, strict=True)]

    def candidates(
        self,
        histories: Sequence[History],
        settings: Settings,
        count: int | None = None,
        ask_model: bool = True,
        each: int | None = None,
    ) -> list[Candidates]:
        """Return each user's candidates with all that is known of them.

        Args:
            histories: who is asked for.
            settings: how to recommend.
            count: how many candidates the signals put up together, at least twice as many as are asked for; what the
                fit found where left out. The language model's items are added to them.
            ask_model: whether the language model is asked.
            each: how many each signal puts up besides by itself; what the fit found where left out.

        Raises:
            DataError: a history holds an item that is not in the catalogue.
            ConfigError: the filters name what no item has, or no item passes them.
        """
        rows = [self.catalog.rows(history.items) for history in histories]
        closed = self._filtered_out(settings.filters)
        seen = [np.union1d(closed, np.array(user if self.excludes_seen(settings) else [], np.int64)) for user in rows]
        if count is None:
            count = self.fusion.together if self.fusion else CANDIDATES
        if each is None:
            each = self.fusion.each if self.fusion else 0
        most = max(count, 2 * settings.k, settings.reranking.candidates(settings.k))
        pools: dict[int, Candidates] = {}
        for places, prompts in self._batches(histories, settings, ask_model):
            texts = [_NOTHING_WRITTEN] * len(places)
            found = [_NOTHING] * len(places)
            read = self.decoder.read(prompts) if prompts else None
            if read is not None:
                found, texts = self._from_model(read, prompts, [seen[place] for place in places], settings)
            pool = self._pool(
                [histories[place] for place in places], [seen[place] for place in places], found, most, each
            )
            likelihoods: Sequence[NDArray[np.float32] | None] = [None] * len(places)
            if read is not None:
                likelihoods = self.decoder.score(read, [own.rows for own in pool])
            for place, own, likelihood, answer, text in zip(places, pool, likelihoods, found, texts, strict=True):
                pools[place] = replace(own, likelihoods=likelihood, found=answer, texts=text)
        return [pools[place] for place in range(len(histories))]

    def excludes_seen(self, settings: Settings) -> bool:
        """Return whether items of the history are left out: as the settings say, or else as the run was trained for."""
        if settings.exclude_seen is not None:
            return settings.exclude_seen
        return not self.details.get("keep_seen", False)

    def prompt(self, history: History) -> Prompt:
        """Return the very prompt that the model is given for a history; a taste stands where the oldest item would."""
        return self.encoder.prompt([*_said(history), *(self.catalog[item].label for item in history.items)])

    @translated()
    def attribute(self, history: Sequence[Taken], item: Taken, method: Method = "leave-one-out") -> list[Influence]:
        """Return how much each of a history's newest items moved the language model towards an item.

        Args:
            history: items, item ids or titles, oldest first.
            item: what is or might be recommended.
            method: `leave-one-out` measures; `attention` is the cheap stand-in. See `genrec.explain.influence`.

        Returns:
            The newest items that fit in the prompt, those that moved it most first.

        Raises:
            DataError: something given is not in the catalogue.
        """
        taken = [self.find(one) for one in history]
        return influences(self.catalog, self.encoder, self.decoder, taken, [self.find(item)], method)[0]

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

    def _batches(
        self, histories: Sequence[History], settings: Settings, ask_model: bool
    ) -> Iterator[tuple[list[int], list[tuple[int, ...]]]]:
        """Yield places and their prompts, of similar length together; no prompts where the model is not asked."""
        known = [ask_model and bool(history.items or history.taste) for history in histories]
        asked = [place for place, told in enumerate(known) if told]
        prompts = [tuple(self.prompt(histories[place]).input_ids) for place in asked]
        for batch in batches_by_length([len(prompt) for prompt in prompts], *self.decoder.limits(settings.batch_size)):
            yield [asked[entry] for entry in batch], [prompts[entry] for entry in batch]
        others = [place for place, told in enumerate(known) if not told]
        for start in range(0, len(others), settings.batch_size):
            yield others[start : start + settings.batch_size], []

    def _from_model(
        self,
        read: Prompts,
        prompts: Sequence[Sequence[int]],
        seen: Sequence[IntArray],
        settings: Settings,
    ) -> tuple[list[Found], list[dict[int, tuple[How, str]]]]:
        """Return the language model's items for each prompt, and how each came about."""
        keep, labels = max(settings.k, settings.beams), self.catalog.labels
        if settings.mode == "constrained":
            found = self.decoder.search(read, keep, keep, seen)
            return found, [{row: ("exact", labels[row]) for row in answer.rows.tolist()} for answer in found]
        grounded: list[Found] = []
        texts: list[dict[int, tuple[How, str]]] = []
        for generations, excluded in zip(self.generator.generate(prompts, settings.beams), seen, strict=True):
            hidden = {self.catalog.items[row].id for row in excluded.tolist()}
            pairs = [(generation.text, generation.score) for generation in generations]
            scores = {text.strip(): score for text, score in reversed(pairs)}
            matches = self.grounder.ground_generations(pairs, keep, hidden)
            ground = [self.catalog.row(match.item) for match, _ in matches]
            values = [scores.get(text.strip(), 0.0) for _, text in matches]
            grounded.append(Found(np.array(ground, np.int64), np.array(values, np.float32)))
            texts.append({row: (match.how, text) for row, (match, text) in zip(ground, matches, strict=True)})
        return grounded, texts

    def _pool(
        self, histories: Sequence[History], seen: Sequence[IntArray], found: Sequence[Found], most: int, each: int
    ) -> list[Candidates]:
        """Return each history's candidates without the model's part.

        Where only a taste is known, all candidates are near it; the model orders them, but adds none.
        """
        said = {user: history.taste for user, history in enumerate(histories) if history.taste}
        alike = self.taste_reader.similarities(list(said.values())) if said else ()
        tastes = dict(zip(said, alike, strict=True))
        values = np.stack([signal.score(histories) for signal in self.signals.values()], axis=2)
        together = self._summed(values)
        for user, rows in enumerate(seen):
            if not histories[user].items:
                # Such a history leaves popularity alone, whose fitted weight beside the others may be negative.
                together[user] = tastes.get(user, values[user, :, self._popularity])
                if user in tastes:
                    values[user, :, self._similarity] = tastes[user]
            together[user, rows] = -np.inf
        best = top_rows(together, min(max(most, CONSIDERED), len(self.catalog)), self.order)
        near = {user: np.where(np.isinf(together[user]), -np.inf, own)[None] for user, own in tastes.items()}
        pools = []
        for user, answer in enumerate(found):
            own, length = tastes.get(user), len(histories[user].items)
            shares = shares_of(values[user])
            parts = [self._best(best[user], values[user], shares, length, most) if length else best[user][:most]]
            if length:
                if each:
                    own_values = np.ascontiguousarray(values[user].T)
                    own_values[:, seen[user]] = -np.inf
                    parts += list(top_rows(own_values, min(each, len(self.catalog)), self.order))
                parts.append(answer.rows)
                if own is not None:
                    parts.append(top_rows(near[user], min(most, len(self.catalog)), self.order)[0])
            rows = np.concatenate(parts)
            rows = rows[np.sort(np.unique(rows, return_index=True)[1])]
            rows = rows[rows != NO_ITEM]
            evidence = self._evidence(values[user, rows], shares[rows], length)
            taste = None if own is None else own[rows]
            told = Candidates(rows, values[user, rows], shares[rows], length, evidence, taste, None, _NOTHING, {})
            pools.append(told)
        return pools

    def _best(self, rows: IntArray, values: FloatArray, shares: FloatArray, length: int, most: int) -> IntArray:
        """Return the best of the rows that the weighted sum put up, once the forest has looked at them."""
        rows = rows[rows != NO_ITEM]
        evidence = self._evidence(values[rows], shares[rows], length)
        return rows[np.lexsort((self.order[rows], -evidence))[:most]]

    def _evidence(self, values: FloatArray, shares: FloatArray, length: int) -> FloatArray:
        if self.fusion is None:
            return self._summed(values)
        return self.fusion.evidence(values, shares, length)

    def _summed(self, values: FloatArray) -> FloatArray:
        """Return the weighted sum of the signals' levels, shape (..., items); equal weights where none is fitted.

        Raises:
            ConfigError: signals have come or gone since the weights were fitted.
        """
        if self.fusion is None:
            even: FloatArray = log_levels(values, None).sum(axis=-1)
            return even
        if self.fusion.signals != tuple(self.signals):
            raise ConfigError(
                [
                    f"the weights were fitted for {', '.join(self.fusion.signals)}, and there are "
                    f"{', '.join(self.signals)}; fit them again with genrec.runs.tuning.tune_fusion"
                ]
            )
        return self.fusion.linear(values)

    @property
    def computing(self) -> Computing:
        """Where and in which number format the language model computes."""
        return Computing.of(self.decoder.model)

    @property
    def _similarity(self) -> int:
        return list(self.signals).index("similarity")

    @property
    def _popularity(self) -> int:
        return list(self.signals).index("popularity")

    @property
    def order(self) -> IntArray:
        """The order of items among equals; see `metrics.tie_order`."""
        if self._order is None:
            self._order = tie_order(len(self.catalog), 0)
        return self._order

    def _filtered_out(self, filters: Filters) -> IntArray:
        """Return the rows of items that the filters keep from everybody; looked up once for one job."""
        if self._closed is None or self._closed[0] != filters:
            self._closed = (filters, np.flatnonzero(~filters.passing(self.catalog)))
        return self._closed[1]

    @property
    def facts(self) -> ItemFacts:
        """What re-ranking knows of the items."""
        if self._facts is None:
            popularity = self.signals["popularity"]
            assert isinstance(popularity, Popularity)  # noqa: S101 - for the type checker
            self._facts = ItemFacts.of(self.catalog, self.content.embeddings, popularity.scores)
        return self._facts

    @property
    def grounder(self) -> Grounder:
        """The grounder of free texts; its encoder is loaded at the first use."""
        if self._grounder is None:
            titles = [item.title for item in self.catalog]
            self._grounder = Grounder(self.catalog.ids, titles, self.index, self.text_encoder, self.catalog.labels)
        return self._grounder

    @property
    def text_encoder(self) -> Encoder:
        """The text encoder that made the index; loaded at the first use."""
        if self._text_encoder is None:
            self._text_encoder = self.load_encoder()
        return self._text_encoder

    @property
    def taste_reader(self) -> TasteReader:
        """What compares sentences with items; made at the first use."""
        if self._taste_reader is None:
            self._taste_reader = TasteReader.of(self.catalog, self.content.embeddings, self.text_encoder.encode)
        return self._taste_reader

    @property
    def explainer(self) -> Explainer:
        """What explains recommendations."""
        if self._explainer is None:
            # What an added item borrows ranks it; to say that people chose it with another would be untrue.
            known = len(self.catalog) - self.details.get("added_items", 0)
            self._explainer = Explainer(
                self.catalog,
                self.encoder,
                self.decoder,
                self.generator,
                counted_part(self.co_occurrence, known),
                self.content,
                self.templates,
            )
        return self._explainer

    @property
    def content(self) -> Content:
        """The similarity of items to a history."""
        signal = self.signals["similarity"]
        assert isinstance(signal, Content)  # noqa: S101 - for the type checker
        return signal

    @property
    def co_occurrence(self) -> CoOccurrence:
        """What is taken near the history's items."""
        signal = self.signals["collaborative"]
        assert isinstance(signal, CoOccurrence)  # noqa: S101 - for the type checker
        return signal

    def _rank(self, history: History, own: Candidates, settings: Settings) -> Ranked:
        """Fuse one user's signals and write the recommendations."""
        alone = own.evidence
        if not history.items:
            alone = own.values[:, self._popularity]
        by_signals = np.lexsort((self.order[own.rows], -alone))
        scores = alone
        if own.likelihoods is not None and self.fusion is not None:
            scores = self.fusion.with_model(alone, own.values, own.shares, own.length, own.likelihoods)
        elif own.likelihoods is not None:
            fused = dict(fuse_reciprocal_ranks([own.found.rows.tolist(), own.rows[by_signals].tolist()]))
            scores = np.array([fused[row] for row in own.rows.tolist()], np.float32)
        if own.taste is not None:
            # No validation case has a taste, so there is no fitted weight for it.
            known = scores if history.items else own.values[:, self._popularity]
            if not history.items and own.likelihoods is not None:
                known = own.likelihoods
            alone = alone if history.items else own.taste
            by_signals = np.lexsort((self.order[own.rows], -alone))
            orders = [np.lexsort((self.order[own.rows], -part)) for part in (own.taste, known)]
            fused = dict(fuse_reciprocal_ranks([own.rows[order].tolist() for order in orders]))
            scores = np.array([fused[row] for row in own.rows.tolist()], np.float32)
        places = np.lexsort((self.order[own.rows], -scores))[: settings.reranking.candidates(settings.k)]
        if settings.reranking.asked:
            taken = self.catalog.rows(history.items)
            places = places[rerank(own.rows[places], scores[places], settings.k, settings.reranking, self.facts, taken)]
        taken_before = set(self.catalog.rows(history.items))
        recommendations = []
        for rank, place in enumerate(places.tolist(), start=1):
            row = int(own.rows[place])
            how, text = own.texts.get(row, ("again" if row in taken_before else _else(history), ""))
            likelihood = None if own.likelihoods is None else float(own.likelihoods[place])
            signals = {"lm": likelihood, **dict(zip(self.signals, own.values[place].tolist(), strict=True))}
            item = self.catalog.items[row]
            recommendations.append(Recommendation(rank, item, float(scores[place]), signals, how, text))
        ids = self.catalog.ids
        return Ranked(
            recommendations,
            [ids[row] for row in own.found.rows[: settings.k]],
            [ids[row] for row in own.rows[by_signals[: settings.k]]],
        )


def _said(history: History) -> list[str]:
    return [history.taste] if history.taste else []


def _else(history: History) -> How:
    """Return how items come about that the model did not find."""
    if history.items:
        return "collaborative"
    return "taste" if history.taste else "popularity"


def _with_explanations(answer: Ranked, explanations: list[Explanation]) -> Ranked:
    """Return an answer whose recommendations carry their explanations, where there are any."""
    if not explanations:
        return answer
    told = [
        replace(entry, explanation=explanation.text)
        for entry, explanation in zip(answer.recommendations, explanations, strict=True)
    ]
    return replace(answer, recommendations=told, explanations=explanations)
