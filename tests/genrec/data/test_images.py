"""Pictures: hostile files are told and not fatal, memory is bounded, and colour alone can say what comes next."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

import genrec
from genrec import Catalog, ConfigError, DataError, History, Item
from genrec.data.images import KIND, vectors_of_images
from genrec.signals.registry import vector_signals
from retrieval.images import SIDE, ColourEncoder, ImageError, read_image

COLOURS = [(200, 30, 30), (30, 200, 30), (30, 30, 200), (210, 210, 30), (200, 30, 200), (30, 200, 200)]


def bomb(path: Path, width: int = 50_000, height: int = 50_000) -> None:
    """Write a PNG of a few bytes that says it has 2,500 million pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def test_unusual_pictures_are_read_as_they_are_seen(tmp_path: Path) -> None:
    red = Image.new("RGB", (40, 60), (255, 0, 0))
    kinds = {
        "plain.jpg": (red, []),
        "cmyk.jpg": (red.convert("CMYK"), ["CMYK"]),
        "deep.png": (Image.fromarray(np.full((20, 20), 65_535, np.uint16)), ["16-bit"]),
        "clear.png": (Image.new("RGBA", (20, 20), (255, 0, 0, 0)), ["transparent"]),
        "opaque.png": (red.convert("RGBA"), []),
        "palette.gif": (red.convert("P"), []),
        "grey.png": (red.convert("L"), []),
    }
    for name, (image, unusual) in kinds.items():
        image.save(tmp_path / name)
        found, remarks = read_image(tmp_path / name)
        assert (found.mode, remarks) == ("RGB", unusual), name
    assert read_image(tmp_path / "clear.png")[0].getpixel((3, 3)) == (255, 255, 255)
    assert read_image(tmp_path / "deep.png")[0].getpixel((3, 3)) == (255, 255, 255)
    assert read_image(tmp_path / "cmyk.jpg")[0].getpixel((3, 3))[0] > 200  # type: ignore[index]
    red.save(tmp_path / "moves.gif", save_all=True, append_images=[Image.new("RGB", (40, 60), (0, 0, 255))])
    found, remarks = read_image(tmp_path / "moves.gif")
    assert (found.getpixel((3, 3)), remarks) == ((255, 0, 0), ["animated"])
    Image.new("RGB", (3000, 2000)).save(tmp_path / "large.png")
    assert max(read_image(tmp_path / "large.png")[0].size) == SIDE


def test_what_cannot_be_used_says_why(tmp_path: Path) -> None:
    bomb(tmp_path / "bomb.png")
    bomb(tmp_path / "bomb2.png", 10_000, 6_000)
    Image.effect_noise((90, 90), 90).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:2000])
    (tmp_path / "text.jpg").write_text("no picture", encoding="utf-8")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    for name in ("bomb.png", "bomb2.png"):
        with pytest.raises(ImageError, match="too large"):
            read_image(tmp_path / name)
    for name, why in (("cut", "damaged"), ("empty", "damaged"), ("none", "missing"), ("folder", "missing")):
        with pytest.raises(ImageError, match=why):
            read_image(tmp_path / f"{name}.png")
    with pytest.raises(ImageError, match="damaged"):
        read_image(tmp_path / "text.jpg")


def test_bad_pictures_are_listed_and_not_fatal(tmp_path: Path) -> None:
    Image.new("RGB", (9, 9), (255, 0, 0)).save(tmp_path / "a.png")
    Image.new("RGBA", (9, 9), (0, 255, 0, 99)).save(tmp_path / "b.png")
    bomb(tmp_path / "c.png")
    (tmp_path / "d.png").write_text("x", encoding="utf-8")
    pictures = ["a.png", "b.png", "c.png", "d.png", "../a.png", "/etc/passwd", "gone.png", None]
    items = pl.DataFrame({"item": list("abcdefgh"), "title": list("ABCDEFGH"), "poster": pictures})
    items.write_csv(tmp_path / "items.csv")
    pl.DataFrame({"user": ["u"] * 3, "item": ["a", "b", "c"], "time": [1, 2, 3]}).write_csv(tmp_path / "log.csv")
    seen: list[tuple[int, int]] = []
    data = genrec.prepare(
        tmp_path / "log.csv",
        tmp_path / "items.csv",
        images="poster",
        image_progress=lambda done, total: seen.append((done, total)),
    )
    assert data.vectors is not None
    assert data.vectors.present[KIND].tolist() == [True, True, *[False] * 6]
    notes = " ".join(data.report.notes)
    assert "pictures: 2 of 8 items have one that can be used, encoded by colours" in notes
    for told in ("damaged, or no picture: 1, such as that of 'd'", "missing: 1", "too large: 1", "1 transparent"):
        assert told in notes
    assert "not a path below the catalogue's folder: 2, such as that of 'e'" in notes
    assert seen == [(7, 7)]


def test_what_is_refused(tmp_path: Path) -> None:
    catalog = Catalog.from_items([Item("a", "A", attributes={"poster": "x.png"})])
    with pytest.raises(DataError, match="no item has a path in the column 'picture', expected one of: poster"):
        vectors_of_images(catalog, "picture", tmp_path)
    with pytest.raises(DataError, match=r"none of 1 pictures can be used \(missing: 1"):
        vectors_of_images(catalog, "poster", tmp_path)
    with pytest.raises(ConfigError, match="cannot be loaded as a sentence-transformers model"):
        vectors_of_images(catalog, "poster", tmp_path, str(tmp_path / "no-model"))


def test_an_encoder_of_nothing_and_of_one() -> None:
    assert ColourEncoder().encode([]).shape == (0, 112)
    vector = ColourEncoder().encode([Image.new("RGB", (5, 5), (255, 0, 0))])[0]
    assert np.linalg.norm(vector[:64]) == pytest.approx(1)
    assert np.linalg.norm(vector[64:]) == pytest.approx(1)


def test_colour_alone_says_what_comes_next(tmp_path: Path) -> None:
    """Each user takes items of one colour; titles and ids say nothing, and no two users share an item of the test."""
    random = np.random.default_rng(0)
    items, colour_of = [], {}
    for number in range(180):
        colour = int(random.integers(len(COLOURS)))
        pixels = np.array(COLOURS[colour]) + random.integers(-25, 26, size=(24, 16, 3))
        pixels[: int(random.integers(2, 12))] = random.integers(0, 256)  # a strip of some grey on each
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(tmp_path / f"{number}.png")
        items.append(Item(str(number), f"Item {number}", attributes={"picture": f"{number}.png"}))
        colour_of[str(number)] = colour
    catalog = Catalog.from_items(items)
    found, _ = vectors_of_images(catalog, "picture", tmp_path)
    signal = vector_signals(catalog, found)[f"vectors-{KIND}"]
    hits, best = [], []
    for _ in range(200):
        colour = int(random.integers(len(COLOURS)))
        own = random.permutation([item for item, one in colour_of.items() if one == colour])
        history, target = tuple(map(str, own[:5])), str(own[5])
        (scores,) = signal.score([History("u", history)])
        scores[catalog.rows(history)] = -np.inf
        hits.append(catalog.row(target) in np.argsort(-scores, kind="stable")[:10])
        best.append(min(10 / (len(own) - 5), 1))  # whoever knows the colour, and nothing else, finds this share
    assert np.mean(best) < 0.7
    assert np.mean(hits) > 0.9 * np.mean(best)
