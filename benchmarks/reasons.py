"""Reasons as people read them: drawn by a seed, unedited, and with their figures.

    python benchmarks/reasons.py --data ml-100k --run runs/films --out benchmarks/results/reasons-ml-100k.json
    python benchmarks/reasons.py --data amazon-beauty:DIR --out benchmarks/results/reasons-amazon-beauty.json
    python benchmarks/reasons.py --data chinese-books --language zh --lists 2 --out benchmarks/results/reasons-zh.json
    python benchmarks/reasons.py --xrec DIR/amazon.jsonl --out benchmarks/results/reasons-xrec-amazon.json

With a run, its own lists of ten are explained by measured evidence. Without one, both the lists and the evidence come
from co-occurrence; the grammar is the same. Measured on 200 users drawn by the seed: FMR, FCR, DIV, USR, distinct-n,
length, shares by kind, citation validity, equal openings of neighbours, and reasons a minute on one core, including
evidence by co-occurrence. For the comparison with XRec, the user profiles of its rows are the stated taste, and the
phrases that they share with the item profiles are the item's categories; the same figures are given for both texts.
"""

# ruff: noqa: E402 - the path is set before what is found by it; patterns

from __future__ import annotations

import argparse
import csv
import itertools
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from genrec import Catalog, History, Item, Recommender, Settings
from genrec.baselines.search import sample_cases
from genrec.data.prepared import PreparedData, load_prepared, prepare
from genrec.evaluation.texts import (
    coverage_ratio,
    distinct,
    feature_diversity,
    features_in,
    matching_ratio,
    unique_ratio,
    words_of,
)
from genrec.explain.check import citations_are_valid
from genrec.explain.evidence import MOST_EVIDENCE, Evidence, Wording
from genrec.explain.explainer import near_item
from genrec.explain.facts import CatalogueFacts
from genrec.explain.grammar import Grammar, beginning
from genrec.explain.names import WORD
from genrec.explain.style import shipped_style
from genrec.runs.explanation_measures import measure_explanations
from genrec.signals.people import people_of
from genrec.signals.registry import NEIGHBOURS_SHRINK
from genrec.signals.simple import Content, CoOccurrence, ItemKNN, Popularity
from genrec.storage.folders import write_json

LIST = 10
SHARED_PHRASES = 5
"""In how many of XRec's user profiles a phrase must stand to count as a category."""

SAYS_NOTHING = frozenset(
    {"reading", "readers", "stories", "characters", "novels", "fiction", "others", "themes", "books"}
)


@dataclass
class Told:
    """One user's list in words: the reasons' texts, what they say first, and what they are about."""

    history: list[Item]
    items: list[Item]
    texts: list[str]
    kinds: list[str]
    wanted: list[str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="ml-100k, amazon-beauty:DIR, chinese-books, or a data folder")
    parser.add_argument("--run", type=Path)
    parser.add_argument("--xrec", type=Path)
    parser.add_argument("--language", choices=("en", "zh"), default="en")
    parser.add_argument("--users", type=int, default=200)
    parser.add_argument("--lists", type=int, default=4, help="whole lists that are shown")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    result = beside_xrec(options.xrec, options.seed) if options.xrec else of_lists(options)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(options.out, result)
    print(markdown(result))


def of_lists(options: argparse.Namespace) -> dict[str, Any]:
    data = read(options.data)
    histories = [case.history for case in sample_cases(data.split().test, options.users, options.seed)]
    faithful: dict[str, Any] = {}
    if options.run:
        told, faithful = by_run(Recommender.from_pretrained(options.run, "cpu"), histories, options)
        pace = by_signals(data, histories, options.language)[1]
    else:
        told, pace = by_signals(data, histories, options.language)
    facts = CatalogueFacts(data.catalog)
    shown = np.random.default_rng(options.seed).choice(len(told), min(options.lists, len(told)), replace=False)
    return {
        "what": "reasons for lists of ten",
        "data": options.data.partition(":")[0],
        "evidence": "measured by leaving out" if options.run else "co-occurrence",
        "language": options.language,
        "users": len(told),
        "seed": options.seed,
        "figures": {**figures(told, facts), **faithful},
        "kinds": shares([kind for one in told for kind in one.kinds]),
        "reasons_a_minute": pace,
        "lists": [
            {"newest": [item.title for item in told[place].history[-3:]], "reasons": told[place].texts}
            for place in sorted(shown.tolist())
        ],
    }


def read(name: str) -> PreparedData:
    if name == "chinese-books":
        return chinese_books()
    return load_prepared(Path(name)) if Path(name).is_dir() else prepare(dataset=name)


def chinese_books(users: int = 120, seed: int = 0) -> PreparedData:
    """Return the toy catalogue with a drawn log: readers stay with one or two categories, and read series in order."""
    draw = np.random.default_rng(seed)
    with (Path(__file__).parent / "chinese_books.csv").open(encoding="utf-8") as lines:
        books = list(csv.DictReader(lines))
    import polars as pl

    log = []
    categories = sorted({book["category"] for book in books})
    for user in range(users):
        liked = set(draw.choice(categories, draw.integers(1, 3), replace=False).tolist())
        own = [book["id"] for book in books if (book["category"] in liked) == (draw.random() < 0.85)]
        log += [{"user": f"u{user}", "item": item, "time": time} for time, item in enumerate(own)]
    return prepare(interactions=pl.DataFrame(log), items=pl.DataFrame(books))


def by_run(
    recommender: Recommender, histories: Sequence[History], options: argparse.Namespace
) -> tuple[list[Told], dict[str, Any]]:
    settings = Settings(k=LIST, explain="measured", wording=Wording(options.language))
    answers = recommender.recommend_with_parts(histories, settings)
    found = measure_explanations(recommender, histories, answers, options.seed)
    told = [
        Told(
            [recommender.catalog[item] for item in history.items],
            [entry.item for entry in answer.recommendations],
            [one.text for one in answer.explanations],
            [one.claims[0].said for one in answer.explanations],
            [next((claim.value for claim in one.claims if claim.feature), "") for one in answer.explanations],
        )
        for history, answer in zip(histories, answers, strict=True)
    ]
    names = ("faithfulness", "drop_cited", "drop_random", "drop_beyond_random")
    return told, {name: found[name].to_json() for name in names if name in found}


def by_signals(data: PreparedData, histories: Sequence[History], language: str) -> tuple[list[Told], float]:
    """Return lists by co-occurrence with their reasons, and how many reasons a minute were made, evidence included."""
    catalog, train = data.catalog, data.split().train
    near = CoOccurrence.fit(catalog, train, window=20)
    people = people_of(
        ItemKNN.fit(catalog, train, neighbours=500, shrink=NEIGHBOURS_SHRINK),
        Popularity.fit(catalog, train),
        NEIGHBOURS_SHRINK,
        len(catalog),
    )
    alike = Content(catalog, np.zeros((len(catalog), 1), np.float32))
    row = catalog.row
    grammar = Grammar(
        CatalogueFacts(catalog),
        shipped_style(language),
        None if people is None else lambda item, other: people.of_both(row(other.id), row(item.id)),
    )
    lists = []
    for history in histories:
        scores = near.score([history])[0]
        scores[catalog.rows(history.items)] = -1.0
        lists.append([catalog.items[place] for place in np.argsort(-scores, kind="stable")[:LIST]])
    told = []
    started = time.process_time()
    for history, items in zip(histories, lists, strict=True):
        rows = catalog.rows(history.items)
        evidence = [near_item(near, alike, rows, item, MOST_EVIDENCE["short"]) for item in items]
        own = [catalog.items[place] for place in rows]
        reasons = grammar.reasons(items, evidence, own)
        wanted = [next((claim.value for claim in one.claims if claim.feature), "") for one in reasons]
        told.append(Told(own, items, [one.text for one in reasons], [one.claims[0].said for one in reasons], wanted))
    seconds = time.process_time() - started
    return told, 60 * sum(len(one.texts) for one in told) / seconds


def figures(told: Sequence[Told], facts: CatalogueFacts) -> dict[str, float]:
    texts = [text for one in told for text in one.texts]
    held = [[features_in(text, facts.vocabulary) for text in one.texts] for one in told]
    flat = [own for one in held for own in one]
    neighbours = [beginning(one) == beginning(other) for own in told for one, other in itertools.pairwise(own.texts)]
    valid = [
        citations_are_valid(text, item, one.history)
        for one in told
        for item, text in zip(one.items, one.texts, strict=True)
    ]
    wanted = [one if one in facts.vocabulary.values() else "" for own in told for one in own.wanted]
    return {
        "citation_validity": float(np.mean(valid)),
        "same_opening_as_the_one_before": float(np.mean(neighbours)) if neighbours else 0.0,
        "usr_of_lists": float(np.mean([unique_ratio(one.texts) for one in told])),
        "usr_of_all": unique_ratio(texts),
        "div_of_lists": float(np.mean([feature_diversity(own) for own in held])),
        "div_of_all": feature_diversity(flat),
        "fmr": matching_ratio(flat, wanted),
        "fcr": coverage_ratio(flat, set(facts.vocabulary.values())),
        "distinct_1": distinct(texts, 1),
        "distinct_2": distinct(texts, 2),
        "words": float(np.mean([len(words_of(text)) for text in texts])),
    }


def shares(kinds: Sequence[str]) -> dict[str, float]:
    return {kind: round(count / len(kinds), 4) for kind, count in Counter(kinds).most_common()}


def beside_xrec(file: Path, seed: int) -> dict[str, Any]:
    """Compare with XRec's own texts on rows of its test part."""
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    rows = [row for row in rows if row.get("xrec")]
    phrases = Counter(phrase for row in rows for phrase in set(phrases_of(row["user_profile"])))
    vocabulary = {
        " ".join(WORD.findall(phrase)): phrase for phrase, count in phrases.items() if count >= SHARED_PHRASES
    }
    # The last row of a title counts; a title that comes twice has one profile.
    items = {
        row["item"]: Item(
            row["item"], row["title"], categories=tuple(sorted(features_in(row["item_profile"], vocabulary)))
        )
        for row in rows
    }
    catalog = Catalog.from_items(items.values())
    grammar = Grammar(CatalogueFacts(catalog), shipped_style("en"))
    own, theirs, wanted = [], [], []
    for row in rows:
        (reason,) = grammar.reasons([catalog[row["item"]]], [Evidence((), "taste")], [], taste=row["user_profile"])
        own.append(reason.text)
        theirs.append(row["xrec"])
        wanted.append(sorted(features_in(row["reason"], vocabulary)))
    features = set(vocabulary.values())

    def judged(texts: list[str]) -> dict[str, float]:
        held = [features_in(text, vocabulary) for text in texts]
        first = [one[0] if one else "" for one in wanted]
        return {
            "usr": unique_ratio(texts),
            "div": feature_diversity(held),
            "fmr": matching_ratio(held, first),
            "fcr": coverage_ratio(held, features),
            "distinct_2": distinct(texts, 2),
            "words": float(np.mean([len(words_of(text)) for text in texts])),
        }

    drawn = np.random.default_rng(seed).choice(len(rows), 10, replace=False)
    return {
        "what": "genrec's grammar beside XRec",
        "data": file.stem,
        "rows": len(rows),
        "features": len(features),
        "seed": seed,
        "genrec": judged(own),
        "xrec": judged(theirs),
        "reference": judged([row["reason"] for row in rows]),
        "pairs": [{"genrec": own[place], "xrec": theirs[place]} for place in sorted(drawn.tolist())],
    }


def phrases_of(profile: str) -> list[str]:
    """Return the phrases of a profile that may name a kind of thing: one to three words between commas."""
    parts = re.split(
        r"[,.;:]| and | or | with | like | such as | enjoy | featuring | that | involving ", profile.casefold()
    )
    words = (re.sub("^(the|a|an|this user|their|also) ", "", part.strip()) for part in parts)
    return [part for part in words if len(part) > 5 and len(part.split()) <= 3 and part not in SAYS_NOTHING]


def markdown(result: dict[str, Any]) -> str:
    if "pairs" in result:
        names = list(result["genrec"])
        lines = [f"| {result['data']}, {result['rows']} rows | {' | '.join(names)} |", f"|---|{'--:|' * len(names)}"]
        for who in ("genrec", "xrec", "reference"):
            lines.append(f"| {who} | {' | '.join(f'{result[who][name]:.3f}' for name in names)} |")
        lines += ["", "| genrec's grammar | XRec |", "|---|---|"]
        lines += [f"| {cell(pair['genrec'])} | {cell(pair['xrec'])} |" for pair in result["pairs"]]
        return "\n".join(lines) + "\n"
    lines = ["| figure | value |", "|---|--:|"]
    for name, value in result["figures"].items():
        number = value["value"] if isinstance(value, dict) else value
        lines.append(f"| {name.replace('_', ' ')} | {'no bound' if number is None else f'{number:.3f}'} |")
    lines.append(f"| reasons a minute, one core | {result['reasons_a_minute']:,.0f} |")
    lines += ["", "By kind: " + ", ".join(f"{kind} {share:.0%}" for kind, share in result["kinds"].items()) + ".", ""]
    for one in result["lists"]:
        lines += [f"After {', '.join(f'*{title}*' for title in one['newest'])}:", ""]
        lines += [*(f"1. {text}" for text in one["reasons"]), ""]
    return "\n".join(lines)


def cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    main()
