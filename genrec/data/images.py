"""The catalogue's pictures as item vectors: found by a column of paths, read one by one, encoded in small batches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from genrec.data.catalog import Catalog, Item
from genrec.data.item_vectors import Given, ItemVectors, given_vectors
from genrec.errors import ConfigError, DataError
from retrieval.images import COLOURS, ImageEncoder, ImageError, load_image_encoder, read_image

if TYPE_CHECKING:
    from PIL.Image import Image

KIND = "images"
"""The name of the vectors that pictures become; the signal is `vectors-images`."""

BATCH = 32
"""Pictures in memory at a time."""

Progress = Callable[[int, int], None]
"""Called with how many pictures are read, and of how many."""


@dataclass(slots=True)
class _Read:
    """What was read so far: rows with their vectors, what failed by reason, and what was unusual."""

    rows: list[int] = field(default_factory=list)
    parts: list[NDArray[np.float32]] = field(default_factory=list)
    failed: dict[str, list[str]] = field(default_factory=dict)
    unusual: Counter[str] = field(default_factory=Counter)

    def images(self, asked: Sequence[tuple[int, Item]], column: str, folder: Path) -> list[Image]:
        """Return the pictures of some items, and note those that cannot be used."""
        images = []
        for row, item in asked:
            try:
                image, remarks = read_image(_place(item, column, folder))
            except ImageError as error:
                self.failed.setdefault(str(error), []).append(item.id)
                continue
            self.unusual.update(remarks)
            self.rows.append(row)
            images.append(image)
        return images

    def add(self, vectors: NDArray[np.float32] | None) -> None:
        """Keep a batch's vectors."""
        if vectors is not None:
            self.parts.append(vectors)


def _encoded(model: ImageEncoder, name: str, images: Sequence[Image]) -> NDArray[np.float32] | None:
    """Return pictures' vectors; None without pictures.

    Raises:
        ConfigError: the encoder takes no pictures.
    """
    if not images:
        return None
    try:
        return model.encode(images)
    except Exception as error:  # a model of texts raises whatever it likes
        raise ConfigError(
            [f"the image encoder {name} does not encode pictures ({str(error)[:200]}); give one that does"]
        ) from error


def vectors_of_images(
    catalog: Catalog, column: str, folder: Path, encoder: str = COLOURS, progress: Progress | None = None
) -> tuple[ItemVectors, list[str]]:
    """Encode the catalogue's pictures; those that cannot be used are told, and their items have no vector.

    Args:
        catalog: the items; an attribute holds the path of each one's picture.
        column: its name.
        folder: what the paths are relative to: the catalogue's folder.
        encoder: `colours`, or a sentence-transformers model that takes pictures.
        progress: called after each batch.

    Returns:
        The vectors, of the one kind `images`, and notes for the report.

    Raises:
        DataError: no item has the column, or not one picture can be used.
        ConfigError: the encoder cannot be loaded, or takes no pictures.
    """
    asked = [(row, item) for row, item in enumerate(catalog) if item.attributes.get(column, "").strip()]
    if not asked:
        known = sorted({name for item in catalog for name in item.attributes})
        raise DataError(
            f"no item has a path in the column {column!r}, expected one of: {', '.join(known) or 'none'}; "
            "name the column of the catalogue that holds the pictures' paths"
        )
    try:
        model = load_image_encoder(encoder)
    except ImageError as error:
        raise ConfigError([f"the image encoder {error}; give {COLOURS}, a folder or a hub id"]) from error
    read = _Read()
    for start in range(0, len(asked), BATCH):
        read.add(_encoded(model, encoder, read.images(asked[start : start + BATCH], column, folder)))
        if progress is not None:
            progress(min(start + BATCH, len(asked)), len(asked))
    failed, unusual, rows = read.failed, read.unusual, read.rows
    reasons = "; ".join(f"{reason}: {len(ids):,}, such as that of {ids[0]!r}" for reason, ids in sorted(failed.items()))
    if not rows:
        raise DataError(
            f"none of {len(asked):,} pictures can be used ({reasons}); paths are relative to {folder or Path()}: "
            "correct the column or the files"
        )
    found = np.concatenate(read.parts)
    vectors, present = np.zeros((len(catalog), found.shape[1]), np.float32), np.zeros(len(catalog), np.bool_)
    vectors[rows], present[rows] = found, True
    notes = [f"pictures: {len(rows):,} of {len(catalog):,} items have one that can be used, encoded by {encoder}"]
    if reasons:
        notes.append(f"pictures left out: {reasons}")
    if unusual:
        told = ", ".join(f"{count:,} {kind}" for kind, count in sorted(unusual.items()))
        notes.append(f"pictures taken as they are seen in plain RGB: {told}")
    return ItemVectors({KIND: vectors}, {KIND: present}), notes


def _place(item: Item, column: str, folder: Path) -> Path:
    """Return where an item's picture is.

    Raises:
        ImageError: the path leaves the catalogue's folder.
    """
    given = item.attributes[column].strip().replace("\\", "/")
    way = PurePosixPath(given)
    if way.is_absolute() or ".." in way.parts or ":" in given or "\0" in given:
        raise ImageError("not a path below the catalogue's folder")
    return folder / way


def all_vectors(
    catalog: Catalog,
    given: Mapping[str, Given],
    column: str | None,
    folder: Path,
    encoder: str,
    progress: Callable[[int, int], None] | None,
) -> tuple[ItemVectors | None, list[str]]:
    """Return the vectors that were given and those of pictures, and what there is to say of them.

    Args:
        catalog: the items.
        given: see `given_vectors`.
        column: see `vectors_of_images`; None: no pictures.
        folder: likewise.
        encoder: likewise.
        progress: likewise.

    Raises:
        DataError: the given vectors are not those of the items, or two kinds have one name.
    """
    found, notes = given_vectors(given, catalog)
    if not column:
        return found, notes
    if KIND in given:
        raise DataError(f"the vectors {KIND!r} are those of --images; give yours another name")
    pictures, more = vectors_of_images(catalog, column, folder, encoder, progress)
    if found is not None:
        pictures = ItemVectors({**found.vectors, **pictures.vectors}, {**found.present, **pictures.present})
    return pictures, [*notes, *more]
