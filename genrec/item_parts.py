"""The parts of a run that depend on its items, and how to add items to them without training.

A new item has a title and nothing else. Its label is added to the trie, so that the language model can write it, and
its vector is added to the index. If the run's base knows how a token's vector follows from what an item is, the label
becomes a token of its own (see `genrec.language.item_tokens`); or else it is spelt in pieces. Nobody has taken the
item, so each counted signal would give it 0, which the fusion would read as evidence against it. So each counted signal
treats it as the weighted mean of the known items with the nearest titles, until the next training gives it its own
evidence; see `genrec.signals.borrowing`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from genrec.data.catalog import Catalog, Item
from genrec.errors import DataError
from genrec.language.item_tokens import ItemTokens, PieceMeans, TokenMaker
from genrec.ranking.taste import Encode
from genrec.signals.borrowing import borrowing, signals_with_items
from genrec.signals.simple import Signal
from prompts.encoding import PromptEncoder
from retrieval.index import ItemIndex
from retrieval.trie import TokenTrie


@dataclass(frozen=True, slots=True, eq=False)
class ItemParts:
    """Everything of a run that knows its items: what grows when items are added.

    Attributes:
        catalog: the items.
        trie: their token sequences.
        index: their vectors.
        signals: every signal but the language model, by name.
        encoder: histories to the model's tokens.
        tokens: those that the base does not have; None: there are none.
    """

    catalog: Catalog
    trie: TokenTrie
    index: ItemIndex
    signals: dict[str, Signal]
    encoder: PromptEncoder
    tokens: ItemTokens | None = None


def with_new_items(
    parts: ItemParts,
    new: Sequence[Item],
    encode: Encode,
    maker: TokenMaker | None = None,
    pieces: PieceMeans | None = None,
) -> ItemParts:
    """Append items; what is given stays as it is.

    Args:
        parts: what there is.
        new: items with ids and titles; their labels are made here.
        encode: titles to vectors.
        maker: gives the new items tokens of their own; None: their labels are spelt in pieces.
        pieces: see `TokenMaker.make`.

    Raises:
        DataError: there is no item, an id is given twice or known already, a title is empty, or a signal of the
            user's own cannot grow, or the model could not tell a new item from another.
    """
    if not new:
        raise DataError("no items are given to add; give at least one with an id and a title")
    if known := [item.id for item in new if item.id in parts.catalog]:
        raise DataError(f"item {known[0]!r} is in the catalogue already ({len(known)} such items); leave it out")
    catalog = parts.catalog.with_items(new)
    added = catalog.items[len(parts.catalog) :]
    vectors = encode([item.title for item in added])
    index = parts.index.copy()
    index.add([item.id for item in added], vectors)
    known_vectors = parts.index.vectors(parts.catalog.ids)
    borrowed = borrowing(index.vectors([item.id for item in added]), known_vectors)
    encoder, tokens = parts.encoder, parts.tokens
    if maker is not None and encoder.embeddings is not None:
        more = maker.make(added, len(parts.catalog), pieces)
        encoder = encoder.with_own(more.own(catalog, encoder.embeddings), encoder.embeddings + len(more))
        tokens = more if tokens is None else tokens.extended(more)
    trie = parts.trie.with_sequences(encoder.answers([item.label for item in added]))
    leaves = trie.leaf[len(parts.catalog) :]
    if (alike := trie.items_below[leaves] > 1).any():
        item = added[int(np.argmax(alike))]
        raise DataError(
            f"the tokenizer makes the same tokens of {int(alike.sum())} new items as of others, such as {item.id!r} "
            f"({item.label[:60]!r}); the model could not tell them apart: give them other titles"
        )
    return ItemParts(
        catalog,
        trie,
        index,
        signals_with_items(parts.signals, catalog, index.vectors(catalog.ids), borrowed),
        encoder,
        tokens,
    )
