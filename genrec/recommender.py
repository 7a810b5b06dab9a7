"""The recommender: a finished run folder in memory, from histories to ranked items.

This is the public entry and does little itself: candidates are made in `genrec.ranking.candidates`, lists in
`genrec.ranking.ranker`, reasons in `genrec.explain.explainer`. Exactly k distinct catalogue items come back whenever
the catalogue has them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from genrec.data.catalog import Catalog, Item, normalise_label
from genrec.data.history_batch import HistoryBatch
from genrec.data.rows import IntArray, tie_order
from genrec.data.splits import History, clean_taste
from genrec.errors import ConfigError, DataError, translated
from genrec.explain.evidence import Explain, Language, Wording
from genrec.explain.explainer import Explainer
from genrec.explain.influence import Influence, influences
from genrec.explain.writer import load_templates
from genrec.growing import Growing
from genrec.language.decoder import Decoder
from genrec.language.generator import FreeGenerator
from genrec.language.item_tokens import ItemTokens
from genrec.language.proposer import Proposer
from genrec.manifest import RunManifest
from genrec.origin import Origin
from genrec.persistence import Persistent
from genrec.ranking.candidates import CandidateMaker, Candidates
from genrec.ranking.filters import FilteredOut, Filters
from genrec.ranking.fusion import Fusion
from genrec.ranking.ranker import Ranked, Ranker
from genrec.ranking.reranking import ItemFacts, Reranking
from genrec.ranking.taste import TasteReader
from genrec.recommendation import Recommendations
from genrec.settings import Mode, Settings, refuses_unknown_options
from genrec.signals.simple import Content, Popularity, Signal
from genrec.taste.grammar import shipped_grammar
from genrec.taste.reading import TasteWords
from prompts.encoding import Prompt, PromptEncoder
from prompts.template import TextTemplate
from retrieval.encoders import Encoder
from retrieval.grounding import Grounder
from retrieval.index import ItemIndex
from training.computing import Computing

Taken = str | Item


@dataclass(eq=False, repr=False)
class Recommender(Persistent, Growing):
    """Recommends items of one catalogue. Make one with `Recommender.from_pretrained`.

    Attributes:
        catalog: the items.
        encoder: histories to tokens.
        decoder: the language model under the catalogue's constraint.
        generator: the language model writing freely.
        signals: every other kind of evidence, by name, in the order of features.
        index: item vectors.
        load_encoder: returns the text encoder of the index, loaded at the first call; texts ask for it.
        manifest: what the run says of itself.
        fusion: the fitted weights; None where none were fitted, then lists are fused by reciprocal ranks.
        templates: what the model is asked with for explanations, by language.
        origin: the run folder that it was loaded from; None of one that was put together by hand.
        tokens: those of added items, which the base does not have; None where there are none.

    Example:
        >>> from genrec import Recommender
        >>> rec = Recommender.from_pretrained("runs/films")
        >>> [entry.item.title for entry in rec.recommend(["Night Train 1", "Night Train 2"], k=1)]
        ['Night Train 3']
    """

    catalog: Catalog
    encoder: PromptEncoder
    decoder: Decoder
    generator: FreeGenerator
    signals: dict[str, Signal]
    index: ItemIndex
    load_encoder: Callable[[], Encoder]
    manifest: RunManifest
    fusion: Fusion | None = None
    templates: dict[Language, TextTemplate] = field(default_factory=load_templates)
    origin: Origin | None = None
    tokens: ItemTokens | None = None

    def __repr__(self) -> str:
        model, signals = type(self.decoder.model).__name__, ", ".join(self.signals)
        return f"<Recommender of {len(self.catalog):,} items: {model} in {self.computing}, with {signals}>"

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
        waterfall: bool = False,
        writer: str = "",
    ) -> Recommendations:
        """Recommend for one history, or for someone new.

        Args:
            history: items, item ids or titles, oldest first; may be empty.
            k: how many.
            taste: what the user says of their taste, such as "quiet science fiction from the seventies". Categories,
                years and prices of the catalogue are kept to (`genrec.taste`), what else it says is compared with
                titles and categories (`genrec.ranking.taste`), and the whole stands in the prompt.
            beams: see `Settings`, as for the options that follow.
            mode: "constrained" or "free".
            exclude_seen: whether items of the history are left out; None: as the run was trained for.
            explain: "none", "sentence", "measured" or "words".
            wording: how explanations are worded.
            batch_size: how many texts of explanations are written side by side.
            filters: conditions that every recommended item meets.
            reranking: what is asked of the list beyond its scores.
            waterfall: whether each recommendation says what its score is made of.
            writer: who words explanations where `explain` is "words"; see `genrec.explain.writers`.

        Returns:
            At most k recommendations, the best first: a list, which notebooks show as a table.

        Raises:
            DataError: something in the history is not in the catalogue, or the taste is too long.
            ConfigError: an option is unknown or impossible, the filters name what no item has, or no item passes them.

        Example:
            >>> from genrec import Recommender
            >>> rec = Recommender.from_pretrained("runs/films")
            >>> from genrec.ranking.filters import Filters
            >>> found = rec.recommend(["Night Train 1"], filters=Filters(only=(("category", "Red Harbour"),)))
            >>> len(found), {entry.item.categories for entry in found}
            (6, {('Red Harbour',)})
        """
        settings = Settings(
            k, beams, mode, exclude_seen, explain, wording, batch_size, filters, reranking, waterfall, writer
        )
        asked = History("", tuple(map(self.find, history)), taste=clean_taste(taste) if taste else "")
        return self.recommend_with_parts([asked], settings)[0].listed()

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
        waterfall: bool = False,
        writer: str = "",
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
            waterfall: likewise.
            writer: likewise.

        Returns:
            One list for each history, in their order.

        Raises:
            DataError: something in a history is not in the catalogue.
            ConfigError: an option is unknown or impossible, or both settings and single options are given.

        Example:
            >>> from genrec import History, Recommender
            >>> rec = Recommender.from_pretrained("runs/films")
            >>> lists = rec.recommend_many([["Night Train 1", "Night Train 2"], History("u1", ("red1",))], k=3)
            >>> [len(found) for found in lists], lists[0][0].item.title
            ([3, 3], 'Night Train 3')
        """
        options = Settings(
            k, beams, mode, exclude_seen, explain, wording, batch_size, filters, reranking, waterfall, writer
        )
        if settings is not None and options != Settings(explain="sentence"):
            raise ConfigError(["settings are given and options beside them; put the options into the Settings"])
        asked = [one if isinstance(one, History) else History("", tuple(map(self.find, one))) for one in histories]
        return [answer.listed() for answer in self.recommend_with_parts(asked, settings or options)]

    @translated()
    def recommend_with_parts(self, histories: Sequence[History], settings: Settings) -> list[Ranked]:
        """Recommend for many histories, and say what the language model and the other signals would have by themselves.

        Raises:
            DataError: a history holds an item that is not in the catalogue.
        """
        batch = HistoryBatch.of(self.catalog, histories)
        ranker = Ranker(self.catalog, tuple(self.signals), self.fusion, self.order, lambda: self.facts)
        ranked = [
            ranker.rank(own, batch.rows_of(user), settings) for user, own in enumerate(self.candidates(batch, settings))
        ]
        items = [[entry.item for entry in answer.recommendations] for answer in ranked]
        explained = self.explainer.explain(
            batch, items, settings.explain, settings.wording, settings.batch_size, settings.writer
        )
        return [answer.explained(own) for answer, own in zip(ranked, explained, strict=True)]

    def candidates(
        self,
        histories: Sequence[History],
        settings: Settings,
        count: int | None = None,
        ask_model: bool = True,
        each: int | None = None,
    ) -> list[Candidates]:
        """Return each user's candidates with all that is known of them; see `CandidateMaker.make`.

        Raises:
            DataError: a history holds an item that is not in the catalogue.
            ConfigError: the filters name what no item has, or no item passes them.
        """
        return self.maker.make(HistoryBatch.of(self.catalog, histories), settings, count, ask_model, each)

    def excludes_seen(self, settings: Settings) -> bool:
        """Return whether items of the history are left out: as the settings say, or else as the run was trained for."""
        return settings.excludes_seen(self.manifest.keep_seen)

    def prompt(self, history: History) -> Prompt:
        """Return the very prompt that the model is given for a history; a taste stands where the oldest item would.

        Args:
            history: whose.

        Raises:
            DataError: an item is not in the catalogue.
        """
        return self.proposer.prompt(history)

    @translated()
    def attribute(self, history: Sequence[Taken], item: Taken) -> list[Influence]:
        """Return how much each of a history's newest items moved the language model towards an item.

        Args:
            history: items, item ids or titles, oldest first.
            item: what is or might be recommended.

        Returns:
            The newest items that fit in the prompt, those that moved it most first.

        Raises:
            DataError: something given is not in the catalogue.
        """
        taken = [self.find(one) for one in history]
        return influences(self.catalog, self.encoder, self.decoder, taken, [self.find(item)])[0]

    def find(self, taken: Taken) -> str:
        """Return an item's id from an item, an id, a label or a title.

        Args:
            taken: the item, or its id, label or title; case and white space do not count in the latter two.

        Raises:
            DataError: the catalogue has no such item.
        """
        name = taken.id if isinstance(taken, Item) else taken
        if name in self.catalog:
            return name
        if (found := self._by_title.get(normalise_label(name))) is not None:
            return found
        raise DataError(f"{name[:80]!r} is neither an id nor a title of the {len(self.catalog)} items of the catalogue")

    @property
    def computing(self) -> Computing:
        """Where and in which number format the language model computes."""
        return Computing.of(self.decoder.model)

    @property
    def maker(self) -> CandidateMaker:
        """What makes candidates; made anew for each call, as signals and weights may be exchanged between calls."""
        return CandidateMaker(
            self.catalog,
            self.signals,
            self.fusion,
            self.order,
            self.proposer,
            self._filtered_out,
            lambda: self.taste_reader,
            self.taste_words,
            self.manifest.keep_seen,
            self.new_rows,
        )

    @cached_property
    def order(self) -> IntArray:
        """The order of items among equals; see `genrec.data.rows.tie_order`."""
        return tie_order(len(self.catalog), 0)

    @cached_property
    def proposer(self) -> Proposer:
        """The language model, asked for items."""
        return Proposer(self.catalog, self.encoder, self.decoder, self.generator, lambda: self.grounder)

    @cached_property
    def facts(self) -> ItemFacts:
        """What re-ranking knows of the items."""
        popularity = self.signals["popularity"]
        assert isinstance(popularity, Popularity)  # noqa: S101 - for the type checker
        return ItemFacts.of(self.catalog, self.content.embeddings, popularity.scores)

    @cached_property
    def grounder(self) -> Grounder:
        """The grounder of free texts; it loads the text encoder."""
        titles = [item.title for item in self.catalog]
        return Grounder(self.catalog.ids, titles, self.index, self.load_encoder(), self.catalog.labels)

    @cached_property
    def taste_reader(self) -> TasteReader:
        """What compares sentences with items; it loads the text encoder."""
        return TasteReader.of(self.catalog, self.content.embeddings, self.load_encoder().encode)

    @cached_property
    def taste_words(self) -> TasteWords:
        """What reads the constraints that a sentence states."""
        return TasteWords(self.catalog, shipped_grammar())

    @cached_property
    def explainer(self) -> Explainer:
        """What explains recommendations."""
        known = len(self.catalog) - self.manifest.added_items
        return Explainer(self.catalog, self.encoder, self.decoder, self.generator, self.signals, self.templates, known)

    @property
    def content(self) -> Content:
        """The similarity of items to a history."""
        signal = self.signals["similarity"]
        assert isinstance(signal, Content)  # noqa: S101 - for the type checker
        return signal

    @cached_property
    def _filtered_out(self) -> FilteredOut:
        return FilteredOut(self.catalog)

    @cached_property
    def _by_title(self) -> dict[str, str]:
        """Ids by normalised titles, of which the first item of a title has it, and by labels, which are unique."""
        found = {normalise_label(item.title): item.id for item in reversed(self.catalog.items)}
        return found | {normalise_label(item.label): item.id for item in self.catalog}
