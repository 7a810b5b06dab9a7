"""Sentences about one's taste, made from the catalogue's attributes: how many of ten items are as the sentence says.

    genrec prepare --dataset ml-100k --out data/films && genrec pretrain --data data/films --out runs/films
    python benchmarks/taste.py --run runs/films --out benchmarks/results/taste.json

Sixty wishes are drawn by the seed from all that ten films or more fulfil: a genre and a decade; a genre before or since
a year; a genre that is not another one. Each is worded five times, so there are 300 sentences. Three wordings were at
hand while the grammar was written; two, one of them Chinese, were held out until the end. A new user says a sentence
and gets ten films; right are those that fulfil the whole wish. The same run answers twice: with what a sentence states
read against the catalogue, and without, as before, when a sentence was only compared by meaning. Intervals are over
wishes, whose five sentences are drawn together.
"""

# ruff: noqa: E402, RUF001 - the path is set before what is found by it; Chinese marks

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from genrec import Catalog, History, Item, Recommender, Settings
from genrec.data.rows import IntArray
from genrec.evaluation.uncertainty import bootstrap_means
from genrec.storage.folders import write_json
from genrec.taste.grammar import shipped_grammar
from genrec.taste.reading import Heard, TasteWords

LIST, WISHES = 10, 60
HELD_OUT = (3, 4)
"""The places of the wordings that were not tried before the end; the last is Chinese."""

WORDINGS = {
    "decade": (
        "{genre} from the {word}",
        "I would like to watch a {genre} film of the {decade}s",
        "some good {decade}s {genre}, please",
        "what {genre} did people go and see in the {word}? show me the best",
        "想看{year_words}年代的{chinese}片",
    ),
    "before": (
        "{genre} before {year}",
        "a {genre} film that is older than {year}",
        "{genre} made before {year}, something for a long evening",
        "show me {genre} pictures, all of them released before {year}",
        "{year}年以前的{chinese}电影",
    ),
    "since": (
        "{genre} since {year}",
        "a {genre} film from {year} or later",
        "{genre} that came out after {previous}, something for a long evening",
        "show me {genre} pictures, nothing from before {year} please",
        "{previous}年之后的{chinese}电影",
    ),
    "without": (
        "{genre} without {other}",
        "a {genre} film, but no {other}",
        "{genre}, not {other}, something for a long evening",
        "I'm in the mood for {genre} tonight, although I really dislike {other}",
        "推荐几部{chinese}片，不要{other_chinese}片",
    ),
}
WORDS = dict(zip(range(1920, 2000, 10), ("twenties", "thirties", "forties", "fifties", "sixties", "seventies",
                                         "eighties", "nineties"), strict=True))  # fmt: skip
CHINESE_TENS = dict(zip(WORDS, "二三四五六七八九", strict=True))
GENRES = {
    "Action": ("action", "动作"), "Adventure": ("adventure", "冒险"), "Animation": ("animation", "动画"),
    "Children's": ("children's", "儿童"), "Comedy": ("comedy", "喜剧"), "Crime": ("crime", "犯罪"),
    "Documentary": ("documentary", "纪录"), "Drama": ("drama", "剧情"), "Fantasy": ("fantasy", "奇幻"),
    "Film-Noir": ("film noir", "黑色电影"), "Horror": ("horror", "恐怖"), "Musical": ("musical", "歌舞"),
    "Mystery": ("mystery", "悬疑"), "Romance": ("romance", "爱情"), "Sci-Fi": ("science fiction", "科幻"),
    "Thriller": ("thriller", "惊悚"), "War": ("war", "战争"), "Western": ("western", "西部"),
}  # fmt: skip


@dataclass(frozen=True)
class Wish:
    """What is wished for: a genre, and the years or the genre that is not wanted."""

    kind: str
    genre: str
    low: int = 0
    high: int = 9999
    other: str = ""

    def is_met_by(self, item: Item) -> bool:
        """Return whether an item fulfils the whole wish."""
        if self.genre not in item.categories or self.other in item.categories:
            return False
        if self.kind == "without":
            return True
        year = item.attributes.get("year", "")
        return year.isdigit() and self.low <= int(year) <= self.high

    def sentences(self) -> list[str]:
        """Return its five wordings."""
        genre, chinese = GENRES[self.genre]
        other, other_chinese = GENRES.get(self.other, ("", ""))
        year = self.low if self.kind == "since" else self.high + 1
        words = {
            "word": WORDS.get(self.low, ""), "decade": self.low, "year": year, "previous": year - 1, "genre": genre,
            "year_words": CHINESE_TENS.get(self.low, "") + "十", "chinese": chinese, "other": other,
            "other_chinese": other_chinese,
        }  # fmt: skip
        return [text.format(**words) for text in WORDINGS[self.kind]]


def wishes_of(catalog: Catalog) -> list[Wish]:
    """Return all wishes that ten items or more fulfil."""

    def all_wishes() -> Iterator[Wish]:
        for genre in GENRES:
            yield from (Wish("decade", genre, decade, decade + 9) for decade in WORDS)
            yield from (Wish("before", genre, high=year - 1) for year in (1940, 1950, 1965, 1975, 1985))
            yield from (Wish("since", genre, low=year) for year in (1980, 1988, 1996, 1997))
        yield from (Wish("without", one, other=other) for one, other in product(GENRES, GENRES) if one != other)

    return [wish for wish in all_wishes() if sum(map(wish.is_met_by, catalog)) >= LIST]


def draw(catalog: Catalog, seed: int) -> list[Wish]:
    """Return sixty wishes: half a genre and a decade where there are so many, the others in equal parts."""
    rng, found = np.random.default_rng(seed), wishes_of(catalog)
    drawn: list[Wish] = []
    for kind, most in (("decade", WISHES // 2), ("before", 10), ("since", 10), ("without", WISHES)):
        own = [wish for wish in found if wish.kind == kind]
        count = min(most, len(own), WISHES - len(drawn))
        drawn += [own[place] for place in sorted(rng.choice(len(own), count, replace=False).tolist())]
    return drawn


class Deaf(TasteWords):
    """Reads no constraint: every sentence is compared as a whole, as before."""

    def hear(self, sentence: str, excluded: IntArray, k: int) -> tuple[Heard, IntArray]:
        """Return the sentence as it is."""
        return Heard(compared=sentence), excluded


def precision(recommender: Recommender, wishes: Sequence[Wish]) -> tuple[np.ndarray, list[list[str]]]:
    """Return the share of right items, shape (wishes, wordings), and what was understood of each sentence."""
    asked = [History("", (), taste=sentence) for wish in wishes for sentence in wish.sentences()]
    found = recommender.recommend_many(asked, Settings(k=LIST))
    shape = (len(wishes), len(WORDINGS["decade"]))
    right = [
        sum(wish.is_met_by(entry.item) for entry in found[place * shape[1] + wording]) / LIST
        for place, wish in enumerate(wishes)
        for wording in range(shape[1])
    ]
    told = [[one.understood for one in found[at : at + shape[1]]] for at in range(0, len(found), shape[1])]
    return np.array(right, np.float64).reshape(shape), told


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--held-out", action="store_true", help="show the held-out wordings' misses too")
    args = parser.parse_args()
    recommender = Recommender.from_pretrained(args.run)
    wishes = draw(recommender.catalog, args.seed)
    systems: dict[str, np.ndarray] = {}
    for name, words in (
        ("read", TasteWords(recommender.catalog, shipped_grammar())),
        ("compared only", Deaf(recommender.catalog, shipped_grammar())),
    ):
        recommender.__dict__["taste_words"] = words
        systems[name], told = precision(recommender, wishes)
        if name == "read":
            report_misses(wishes, systems[name], told, args.held_out)
    seen = [place for place in range(len(WORDINGS["decade"])) if place not in HELD_OUT]
    groups: dict[str, tuple[Any, Any]] = {
        "all": (slice(None), slice(None)),
        "wordings at hand": (slice(None), seen),
        "wordings held out": (slice(None), list(HELD_OUT)),
        "English held out": (slice(None), [HELD_OUT[0]]),
        "Chinese held out": (slice(None), [HELD_OUT[1]]),
    }
    for kind in WORDINGS:
        groups[kind] = ([place for place, wish in enumerate(wishes) if wish.kind == kind], slice(None))
    figures: dict[str, Any] = {}
    for group, (rows, columns) in groups.items():
        means = {name: values[rows][:, columns].mean(axis=1) for name, values in systems.items()}
        means["difference"] = means["read"] - means["compared only"]
        estimates = bootstrap_means(np.column_stack(list(means.values())), seed=args.seed)
        figures[group] = {
            name: {"value": round(one.value, 4), "low": round(one.low, 4), "high": round(one.high, 4)}
            for name, one in zip(means, estimates, strict=True)
        } | {"wishes": len(next(iter(means.values())))}
        shown = [
            f"{name} {one.value:.3f} ({one.low:.3f} to {one.high:.3f})"
            for name, one in zip(means, estimates, strict=True)
        ]
        print(f"{group:20}", *shown)
    if args.out:
        write_json(
            args.out,
            {
                "measure": f"precision@{LIST}: items of the list that fulfil the whole wish",
                "data": "ml-100k", "items": len(recommender.catalog), "seed": args.seed, "wishes": len(wishes),
                "sentences": sum(len(wish.sentences()) for wish in wishes),
                "intervals": "95 % percentile bootstrap over wishes",
                "figures": figures,
                "wordings": WORDINGS, "held_out": list(HELD_OUT),
            },
        )  # fmt: skip


def report_misses(wishes: Sequence[Wish], found: np.ndarray, told: list[list[str]], held_out: bool) -> None:
    """Print the sentences with fewer right items than the list is long, and what was understood of them."""
    for place, wish in enumerate(wishes):
        for wording, sentence in enumerate(wish.sentences()):
            if found[place, wording] < 1 and (held_out or wording not in HELD_OUT):
                print(f"{found[place, wording]:.1f}  {sentence}  [{told[place][wording]}]", file=sys.stderr)


if __name__ == "__main__":
    main()
