"""Pictures as vectors: reading files that nobody has checked, and the encoders.

A picture is read small: its size is known before it is decoded, one that is too large is refused then, and a JPEG is
decoded at a fraction of its size. So memory does not grow with what the files hold.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.Image import Image

MOST_PIXELS, MOST_BYTES = 50_000_000, 64 * 2**20
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF")
SIDE = 224
"""The longer side to which a picture is reduced before it is encoded, in pixels."""

COLOURS = "colours"
"""The name of the built-in encoder."""


class ImageError(Exception):
    """A picture that cannot be used; the text says why."""


class ImageEncoder(Protocol):
    """Encodes pictures as vectors."""

    def encode(self, images: Sequence[Image]) -> NDArray[np.float32]:
        """Return float32 of shape (images, width)."""
        ...


def read_image(path: Path) -> tuple[Image, list[str]]:
    """Read a picture as RGB, at most `SIDE` pixels wide and high.

    Transparent parts become white; of an animation the first frame is taken; 16-bit and CMYK pictures are converted.

    Returns:
        The picture, and what was unusual about it ("animated", "transparent", "CMYK", "16-bit").

    Raises:
        ImageError: it is missing, damaged, too large, or of another format.
    """
    from PIL import Image

    if not path.is_file():
        raise ImageError("missing")
    if path.stat().st_size > MOST_BYTES:
        raise ImageError("too large")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of sizes that are checked here
            with Image.open(path, formats=FORMATS) as image:
                if image.width * image.height > MOST_PIXELS:
                    raise ImageError("too large")
                return _as_rgb(image)
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageError("too large") from error
    except Exception as error:  # a damaged file makes Pillow raise nearly anything
        raise ImageError("damaged, or no picture") from error


def _as_rgb(image: Any) -> tuple[Image, list[str]]:
    from PIL import Image

    unusual = ["animated"] if getattr(image, "n_frames", 1) > 1 else []
    image.seek(0)
    image.draft("RGB", (SIDE, SIDE))
    image.load()
    if image.mode == "CMYK":
        unusual.append("CMYK")
    if image.mode.startswith("I") or image.mode == "F":
        unusual.append("16-bit")
        levels = np.asarray(image, np.float64)
        image = Image.fromarray((255 * np.clip(levels / max(65_535.0, float(levels.max())), 0, 1)).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        own = image.convert("RGBA")
        own.thumbnail((SIDE, SIDE))
        if own.getextrema()[3][0] < 255:
            unusual.append("transparent")
        paper = Image.new("RGBA", own.size, "white")
        paper.alpha_composite(own)
        return paper.convert("RGB"), unusual
    image = image.convert("RGB")
    image.thumbnail((SIDE, SIDE))
    return image, unusual


class ColourEncoder:
    """The built-in encoder: which colours a picture has, and where; it knows nothing of what is shown.

    The first 64 numbers are the square roots of the shares of 4 x 4 x 4 colours, the other 48 the mean colours of
    4 x 4 fields; either half has length 1.
    """

    def encode(self, images: Sequence[Image]) -> NDArray[np.float32]:
        """Return float32 of shape (images, 112)."""
        return np.stack([self._vector(image) for image in images]) if images else np.zeros((0, 112), np.float32)

    @staticmethod
    def _vector(image: Image) -> NDArray[np.float32]:
        small = np.asarray(image.resize((32, 32)), np.int64)
        bins = small // 64 @ np.array([16, 4, 1])
        shares = np.sqrt(np.bincount(bins.ravel(), minlength=64) / bins.size)
        fields = small.reshape(4, 8, 4, 8, 3).mean(axis=(1, 3)).ravel() / 255
        return np.concatenate([shares, fields / max(float(np.linalg.norm(fields)), 1e-9)]).astype(np.float32)


class SentenceTransformersImages:
    """Any sentence-transformers model that takes pictures, such as CLIP.

    Args:
        name: a folder or a hub id.
    """

    def __init__(self, name: str) -> None:
        from sentence_transformers import SentenceTransformer

        self._model = SentenceTransformer(name)

    def encode(self, images: Sequence[Image]) -> NDArray[np.float32]:
        """Return float32 of shape (images, width)."""
        found = self._model.encode(list(images), show_progress_bar=False, convert_to_numpy=True)
        return np.asarray(found, np.float32)


def load_image_encoder(name: str = COLOURS) -> ImageEncoder:
    """Return an encoder by its name: `colours`, or a sentence-transformers model by its folder or hub id.

    Raises:
        ImageError: the model cannot be loaded.
    """
    if name == COLOURS:
        return ColourEncoder()
    try:
        return SentenceTransformersImages(name)
    except Exception as error:  # the libraries below raise several types
        raise ImageError(f"{name} cannot be loaded as a sentence-transformers model ({str(error)[:200]})") from error
