"""The parts of a run that depend on its items, and how to add items to them without training.

A new item has a title and nothing else. Its label is added to the trie, so that the language model can write it, and
its vector is added to the index. Nobody has taken it, so each counted signal would give it 0, which the fusion would
read as evidence against it. So each counted signal treats it as the weighted mean of the known items with the nearest
titles, until the next training gives it its own evidence; see `genrec.signals.borrowing`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from genrec.data.catalog import Catalog, Item
from genrec.errors import DataError
from genrec.ranking.taste import Encode
from genrec.signals.borrowing import borrowing, signals_with_items
from genrec.signals.simple import Signal
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
    """

    catalog: Catalog
    trie: TokenTrie
    index: ItemIndex
    signals: dict[str, Signal]


def with_new_items(
    parts: ItemParts, new: Sequence[Item], answers: Callable[[Sequence[str]], list[tuple[int, ...]]], encode: Encode
) -> ItemParts:
    """Append items; what is given stays as it is.

    Args:
        parts: what there is.
        new: items with ids and titles; their labels are made here.
        answers: labels to token sequences, terminators included; see `PromptEncoder.answers`.
        encode: titles to vectors.

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
    trie = parts.trie.with_sequences(answers([item.label for item in added]))
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
    )
