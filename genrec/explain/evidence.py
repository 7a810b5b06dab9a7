"""The reason beside a recommendation: evidence first, then a sentence that says only what the evidence says.

Evidence is items of the user's own history: those that stand closest to the recommended one (taken near it by other
people, or alike in what their titles mean), or those that were measured to move the language model towards it
(`genrec.explain.influence`). The sentence names those and nothing else. Items are named by their labels, which are
short and
unique; whatever is named stands between “ and ”, and nothing else does.

The easy mistake is to let a title be more than a name: one with quotation marks of its own would end its quotation
early, and one with marks that turn the direction of writing would turn the sentence.
"""

# ruff: noqa: RUF001 - Chinese sentences have their own commas, and names their own quotation marks

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from genrec.data.catalog import Item, clean_title
from genrec.errors import ConfigError
from genrec.explain.influence import Influence

Explain = Literal["none", "sentence", "measured", "words"]
"""Nothing; a sentence from what stands near the item; a sentence from what moved the language model, measured by
leaving out; the same evidence in the language model's own words, checked."""

Language = Literal["en", "zh"]
Tone = Literal["plain", "warm"]
Length = Literal["short", "long"]
Kind = Literal["again", "together", "alike", "moved", "taste", "popular"]
"""What evidence says: the user took the item itself before; other people took it near the item, it is like the item, it
moved the language model towards the item; or there is no history, and the item is near the taste that the user
describes, or is popular."""

MOST_EVIDENCE: dict[Length, int] = {"short": 2, "long": 3}
"""How many items are cited at most."""

WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_\u3040-\u30ff\u3400-\u9fff]+")
"""A word; each character of a script without blanks counts as one."""

_KEPT_MARKS = "\u200c\u200d"  # joiners, which Persian, Hindi and emoji are spelt with


@dataclass(frozen=True, slots=True)
class Wording:
    """How explanations are worded.

    Attributes:
        language: English or Chinese.
        tone: matter-of-fact or warm.
        length: one sentence that cites at most two items, or up to three sentences that cite at most three.

    Raises:
        ConfigError: there is no such language, tone or length; all problems are told at once.
    """

    language: Language = "en"
    tone: Tone = "plain"
    length: Length = "short"

    def __post_init__(self) -> None:
        problems = [
            f"{name} is {value!r}; expected {', '.join(get_args(choices))}; choose one of them"
            for name, value, choices in (
                ("language", self.language, Language),
                ("tone", self.tone, Tone),
                ("length", self.length, Length),
            )
            if value not in get_args(choices)
        ]
        if problems:
            raise ConfigError(problems)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What speaks for a recommendation.

    Attributes:
        items: items of the user's history, the strongest first; empty where there is no history.
        kind: what is known of them.
    """

    items: tuple[Item, ...]
    kind: Kind


def name_of(item: Item) -> str:
    """Return an item's name as it stands between quotation marks: one line, without marks that end or turn it."""
    title = clean_title(item.label or item.title).replace("“", "‘").replace("”", "’")
    return "".join(one for one in title if unicodedata.category(one) != "Cf" or one in _KEPT_MARKS)


def quoted(item: Item) -> str:
    """Return an item's name between quotation marks."""
    return f"“{name_of(item)}”"


def named(text: str) -> list[str]:
    """Return the names that a text gives between quotation marks, in order."""
    return re.findall("“([^“”]*)”", text)


def outside_quotes(text: str) -> str:
    """Return a text without what it names; the quotation marks stay."""
    return re.sub("“[^“”]*”", "“”", text)


def nearest_evidence(
    history_rows: Sequence[int],
    together: NDArray[np.floating],
    alike: NDArray[np.floating],
    most: int = 2,
) -> list[int]:
    """Return the places in the history of the items that speak most for the recommendation.

    Args:
        history_rows: the history's item rows, oldest first.
        together: how often each was taken near the recommended item, shape (len(history_rows),).
        alike: cosine similarity of each to the recommended item, shape (len(history_rows),).
        most: how many places to return at most.

    Returns:
        Places, the strongest evidence first; each item once.
    """
    if not history_rows:
        return []
    top = together.max()
    strength = (together / top if top > 0 else together) + alike
    places: list[int] = []
    for place in np.argsort(-strength, kind="stable").tolist():
        if history_rows[place] not in [history_rows[other] for other in places]:
            places.append(place)
        if len(places) == most:
            break
    return places


def measured_evidence(influences: Sequence[Influence], most: int = 2) -> tuple[Item, ...]:
    """Return the items that moved a recommendation most, each once; those that spoke against it are never among them.

    Args:
        influences: of one recommendation, the strongest first.
        most: how many at most.
    """
    items = dict.fromkeys(one.item.id for one in influences if one.weight > 0)
    by_id = {one.item.id: one.item for one in influences}
    return tuple(by_id[item] for item in list(items)[:most])


def evidence_sentence(item: Item, evidence: Evidence, wording: Wording = Wording()) -> str:
    """Return the sentence that states the evidence; a long one adds what the catalogue says of all of them.

    Args:
        item: what is recommended.
        evidence: what speaks for it.
        wording: how it is said.
    """
    words = _WORDS[wording.language]
    kind = evidence.kind if evidence.items or evidence.kind in ("taste", "again") else "popular"
    text = words[kind, wording.tone].format_map(
        {"item": quoted(item), "names": names(evidence.items, wording.language)}
    )
    shared = [one for one in item.categories if all(one in other.categories for other in evidence.items)]
    if wording.length == "long" and evidence.items and shared:
        text += words["shared", wording.tone].format_map({"category": shared[0]})
    return text


def names(items: Sequence[Item], language: Language) -> str:
    """Return the names of items as a list in a sentence."""
    comma, last = {"en": (", ", " and "), "zh": ("、", "和")}[language]
    quotations = [quoted(item) for item in items]
    return last.join([comma.join(quotations[:-1]), quotations[-1]]) if len(quotations) > 1 else "".join(quotations)


_WORDS: dict[Language, dict[tuple[str, str], str]] = {
    "en": {
        ("popular", "plain"): "{item} is popular, and there is no history yet to go by.",
        ("popular", "warm"): "Many people choose {item}, a good place to begin.",
        ("taste", "plain"): "{item} is close to the taste you describe.",
        ("taste", "warm"): "You describe your taste, and {item} is close to it.",
        ("again", "plain"): "You chose {item} before.",
        ("again", "warm"): "You chose {item} before, and it may be time for it again.",
        ("together", "plain"): "{item} is often chosen close to {names}, which you chose.",
        ("together", "warm"): "You chose {names}, and people often choose {item} close to that.",
        ("alike", "plain"): "{item} is close in kind to {names}, which you chose.",
        ("alike", "warm"): "You chose {names}, and {item} is close in kind to that.",
        ("moved", "plain"): "{item} is expected next above all because you chose {names}.",
        ("moved", "warm"): "{item} may be just right for you, above all since you chose {names}.",
        ("shared", "plain"): " All of them are filed under {category}.",
        ("shared", "warm"): " You will find all of them under {category}.",
    },
    "zh": {
        ("popular", "plain"): "{item}很受欢迎，目前还没有您的历史可供参考。",
        ("popular", "warm"): "很多人选择{item}，不妨从它开始。",
        ("taste", "plain"): "{item}与您描述的喜好相近。",
        ("taste", "warm"): "您说了自己的喜好，{item}与之相近。",
        ("again", "plain"): "您以前选择过{item}。",
        ("again", "warm"): "您以前选择过{item}，也许又到了需要它的时候。",
        ("together", "plain"): "人们常常把{item}和您选择过的{names}先后选择。",
        ("together", "warm"): "您选择过{names}，人们也常常在前后选择{item}。",
        ("alike", "plain"): "{item}与您选择过的{names}同属一类。",
        ("alike", "warm"): "您选择过{names}，而{item}与之相近。",
        ("moved", "plain"): "{item}值得推荐，主要是因为您选择过{names}。",
        ("moved", "warm"): "{item}也许正适合您，主要是因为您选择过{names}。",
        ("shared", "plain"): "它们都属于{category}。",
        ("shared", "warm"): "它们都能在{category}中找到。",
    },
}
