"""How a recommender grows: new items, without training.

The room `runs` does the same on disk; see `genrec.runs.grow`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor

from genrec.data.catalog import Item
from genrec.data.rows import IntArray
from genrec.errors import translated
from genrec.item_parts import ItemParts, with_new_items
from genrec.language.decoder import Decoder
from genrec.language.item_tokens import TokenMaker, grown_model, piece_means

if TYPE_CHECKING:
    from genrec.recommender import Recommender


class Growing:
    """What a recommender can do with items that came after its training."""

    @translated()
    def with_items(self, items: Sequence[Item]) -> Recommender:
        """Return a recommender that also knows new items; nothing is trained, and this one stays as it is.

        The new items can be recommended at once: the model can write their labels, the index finds them, and the
        other signals lend them what the nearest known titles have (see `genrec.item_parts`). The model's weights are
        shared. On disk, `genrec add-items` does the same.

        Args:
            items: items with an id and a title; categories and attributes where known.

        Raises:
            DataError: an id is given twice or known already, a title is empty, or a signal is the user's own.

        Example:
            >>> from genrec import Item, Recommender
            >>> rec = Recommender.from_pretrained("runs/films")
            >>> grown = rec.with_items([Item("nig7", "Night Train 7")])
            >>> len(rec.catalog), len(grown.catalog)
            (30, 31)
        """
        own = self._grown
        parts = ItemParts(own.catalog, own.decoder.trie, own.index, own.signals, own.encoder, own.tokens)
        pieces = piece_means(own.encoder, own.decoder.model, own.generator.head)
        parts = with_new_items(parts, items, own.load_encoder().encode, own.token_maker, pieces)
        # The old decoder's head is over the old catalogue's tokens; a new title may have others.
        model = grown_model(own.decoder.model, own.generator.head, own.tokens, parts.tokens)
        return replace(
            own,
            catalog=parts.catalog,
            encoder=parts.encoder,
            tokens=parts.tokens,
            decoder=Decoder(model, parts.trie, own.decoder.normalisation, own.decoder.forced_tokens),
            generator=replace(own.generator, model=model),
            signals=parts.signals,
            index=parts.index,
            manifest=own.manifest.changed(added_items=own.manifest.added_items + len(items)),
        )

    @cached_property
    def token_maker(self) -> TokenMaker | None:
        """What gives new items tokens of their own; None where the run's base has no f for them."""
        own = self._grown
        known, name = own.manifest.models.get("encoder"), own.encoder.template.name
        return TokenMaker.of(own.origin.base, name, known, own.load_encoder) if own.origin else None

    @property
    def new_rows(self) -> IntArray:
        """The rows of the items that were added after training."""
        size = len(self._grown.catalog)
        return np.arange(size - self._grown.manifest.added_items, size)

    @property
    def whole_head(self) -> Tensor:
        """The weights of the output head over all tokens, those of added items included, of shape (tokens, width)."""
        own = self._grown
        weight: Tensor = own.generator.head.weight.detach()
        return weight if own.tokens is None else torch.cat([weight, torch.from_numpy(own.tokens.head).to(weight)])

    @property
    def _grown(self) -> Recommender:
        return cast("Recommender", self)
