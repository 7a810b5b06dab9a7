"""Tokens of items that were added after training: a vector from what the item is, without any training.

A base that `genrec pretrain` made holds f beside its weights (see `training.meaning`). So a new item's label becomes a
token of its own, whose vector is f(text vector of the item). These tokens belong to the run, not to the base: they are
put behind the base's own tokens when the run is loaded. The tokenizer does not know them, so the encoder is told.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from genrec.data.catalog import Catalog, Item
from genrec.errors import ArtefactError, ModelError
from genrec.language.bases import template_of
from genrec.language.identity import Identity
from prompts.encoding import PromptEncoder
from retrieval.encoders import Encoder
from training.backbone import with_more_tokens, with_own_head
from training.errors import BackboneError
from training.meaning import SavedMeaning

FILE = "tokens.safetensors"

FloatArray = NDArray[np.float32]

PieceMeans = Callable[[Sequence[Item]], list[torch.Tensor]]

DESCRIBING = ("year", "release_year", "brand", "author", "artist", "genre", "colour", "color")
"""Attributes that say what an item is, and are part of its text."""


def item_text(item: Item) -> str:
    """Return what a text encoder reads of an item: title, categories, and the attributes that describe it."""
    title = item.title.casefold()
    categories = [category for category in item.categories if category.casefold() not in title]
    named = {key.casefold(): value for key, value in item.attributes.items() if value}
    described = [f"{key} {named[key]}" for key in DESCRIBING if key in named and named[key].casefold() not in title]
    return ". ".join([item.title, *([", ".join(categories)] if categories else []), *described])


@dataclass(frozen=True, slots=True, eq=False)
class ItemTokens:
    """The tokens of items that were added to a run.

    Attributes:
        rows: int64 [tokens]; each token's item, as a row of the catalogue.
        inside: float32 [tokens, width]; their vectors in the input.
        head: float32 [tokens, width]; their vectors in the output head.
    """

    rows: NDArray[np.int64]
    inside: FloatArray
    head: FloatArray

    def __len__(self) -> int:
        return len(self.rows)

    def own(self, catalog: Catalog, embeddings: int) -> dict[str, int]:
        """Return the labels and the tokens.

        Args:
            catalog: the run's items.
            embeddings: the size of the base's own embedding table, behind which they stand.
        """
        return {catalog.labels[row]: embeddings + place for place, row in enumerate(self.rows.tolist())}

    def extended(self, other: ItemTokens) -> ItemTokens:
        """Return these tokens and, behind them, others."""
        return ItemTokens(
            np.concatenate((self.rows, other.rows)),
            np.concatenate((self.inside, other.inside)),
            np.concatenate((self.head, other.head)),
        )

    def added_to(self, model: Any, head: Any) -> Any:
        """Return a model that has these tokens, too; see `training.backbone.with_more_tokens`."""
        return with_more_tokens(model, head, torch.from_numpy(self.inside), torch.from_numpy(self.head))

    def save(self, folder: Path) -> None:
        """Write them into a run folder."""
        from safetensors.numpy import save

        (folder / FILE).write_bytes(save({"rows": self.rows, "inside": self.inside, "head": self.head}))

    @classmethod
    def load(cls, folder: Path) -> Self | None:
        """Read what `save` wrote; None where the run has no such items.

        Raises:
            ArtefactError: the file is damaged.
        """
        from safetensors.numpy import load_file

        path = folder / FILE
        if not path.is_file():
            return None
        try:
            return cls(**load_file(path))
        except Exception as error:  # safetensors raises several types, some of its own
            raise ArtefactError(f"{path} cannot be read ({error}); add the items again") from error


@dataclass(frozen=True, slots=True)
class TokenMaker:
    """Makes the tokens of new items with the f of a run's base.

    Attributes:
        meaning: f.
        load_encoder: returns the text encoder that f learnt from.
    """

    meaning: SavedMeaning
    load_encoder: Callable[[], Encoder]

    @classmethod
    def of(cls, base: str, template: str, encoder: Identity | None, load_encoder: Callable[[], Encoder]) -> Self | None:
        """Return the maker of a run; None where its base has no f, or f learnt from another encoder or template.

        Args:
            base: the base's folder.
            template: the name of the run's template.
            encoder: the identity of the run's text encoder.
            load_encoder: returns it.

        Raises:
            ModelError: f is damaged.
        """
        try:
            meaning = SavedMeaning.load(Path(base))
        except BackboneError as error:
            raise ModelError(str(error)) from None
        if meaning is None or encoder is None or template_of(base) != template:
            return None
        return cls(meaning, load_encoder) if meaning.told.get("encoder") == encoder_mark(encoder) else None

    def make(self, items: Sequence[Item], first: int, pieces: PieceMeans | None = None) -> ItemTokens:
        """Return the tokens of new items.

        Args:
            items: the items.
            first: the first one's row; the others follow.
            pieces: returns the mean of each item's pieces in the input and in the head; needed if the base was trained
                elsewhere.
        """
        starts = pieces(items) if self.meaning.from_pieces and pieces is not None else None
        inside, head = self.meaning.vectors(self.load_encoder().encode([item_text(item) for item in items]), starts)
        return ItemTokens(np.arange(first, first + len(items)), inside, head)


def grown_model(model: Any, head: Any, before: ItemTokens | None, now: ItemTokens | None) -> Any:
    """Return a second model that has the tokens of added items, a head over all of its tokens, and shared weights.

    Args:
        model: it has the tokens of `before` in its input, and any head.
        head: the base's output head over its whole vocabulary.
        before: the added tokens until now.
        now: those and the new ones behind them.
    """
    if now is None:
        return with_own_head(model, head)
    read = 0 if before is None else len(before)
    return with_more_tokens(model, head, torch.from_numpy(now.inside[read:]), torch.from_numpy(now.head))


def encoder_mark(encoder: Identity) -> str:
    """Return what tells one text encoder from another: its contents, or the name of one that needs no files."""
    return encoder.contents or encoder.name


def piece_means(encoder: PromptEncoder, model: Any, head: Any) -> PieceMeans:
    """Return what gives the mean vectors of new titles' pieces, in the input and in the head."""
    tables = [model.get_input_embeddings().weight.detach(), head.weight.detach()]

    def means(items: Sequence[Item]) -> list[torch.Tensor]:
        texts = [encoder.template.item_text(item.label or item.title) for item in items]
        pieces = encoder.tokenizer(texts, add_special_tokens=False)["input_ids"]
        return [torch.stack([table[torch.tensor(one)].float().mean(dim=0) for one in pieces]) for table in tables]

    return means
