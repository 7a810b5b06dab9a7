"""Write the tutorial's own data: `python docs/toy_data.py` makes log.csv and films.csv in the working folder.

Ten made-up film series of six parts each. A viewer likes one genre, follows its two series from the first part on, and
now and then watches a first part of another genre. So there is something to learn, and anybody can check a list by eye:
after "Night Train 2" comes "Night Train 3".
"""

from __future__ import annotations

import csv
import random
import sys
from collections.abc import Iterator
from pathlib import Path

SERIES = {
    "Red Harbour": "Crime",
    "Night Train": "Crime",
    "The Long Valley": "Western",
    "Copper Sky": "Western",
    "Café Étoile": "Comedy",
    "Ten Quiet Miles": "Comedy",
    "Moon & Sixpence": "Drama",
    "The Glass Orchard": "Drama",
    "The Lantern Keepers": "Fantasy",
    "Winter Ferry": "Fantasy",
}
PARTS = 6
VIEWERS = 400

Film = tuple[str, str, str, int, str]


def films() -> list[Film]:
    """Return the catalogue: id, title, genre, year and price of each film."""
    return [
        (f"f{60 + place * PARTS + part}", f"{series} {part}", genre, 1990 + 2 * part + place % 2, f"{6 + 2 * part}.50")
        for place, (series, genre) in enumerate(SERIES.items())
        for part in range(1, PARTS + 1)
    ]


def events(viewers: int = VIEWERS, seed: int = 0) -> Iterator[tuple[str, str, str]]:
    """Yield the log: viewer, film and day of each event."""
    draw = random.Random(seed)  # noqa: S311 - made-up films need no secret
    ids = {title: film for film, title, *_ in films()}
    names = list(SERIES)
    for viewer in range(1, viewers + 1):
        genre = draw.choice(list(SERIES.values()))
        followed = {name: 1 for name in names if SERIES[name] == genre}
        day = draw.randrange(1, 29)
        for step in range(draw.randint(4, 10)):
            name = draw.choice(list(followed)) if draw.random() < 0.85 else draw.choice(names)
            part = followed.get(name, 1)
            if part > PARTS:
                continue
            followed[name] = part + 1
            yield f"u{viewer:04d}", ids[f"{name} {part}"], f"2026-{1 + step:02d}-{day:02d}"


def write(folder: Path, viewers: int = VIEWERS) -> tuple[Path, Path]:
    """Write log.csv and films.csv into a folder and return their paths."""
    log, catalogue = folder / "log.csv", folder / "films.csv"
    for path, head, rows in (
        (log, ("user", "item", "time"), events(viewers)),
        (catalogue, ("id", "title", "genre", "year", "price"), films()),
    ):
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(head)
            writer.writerows(rows)
    return log, catalogue


if __name__ == "__main__":
    # python toy_data.py [FOLDER [VIEWERS]]
    write(Path(*sys.argv[1:2]), *map(int, sys.argv[2:3]))
