"""The words in which people state constraints, from `en.toml` and `zh.toml`, and matching them with a sentence.

A pattern such as "from {time} to {time}" is a row of words and slots. A slot stands for a value that other patterns
spell, such as a decade. Which words mean what stands in the files alone; here is only how a row is matched.
"""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

LANGUAGES = ("en", "zh")
Span = tuple[float, float]
"""The lowest and the highest value that is meant, both included; infinite where open."""

_TOKEN = re.compile(
    r"\d+(?:,\d{3})*(?:\.\d+)?"  # a number
    r"|[〇零一二三四五六七八九十百两]+"  # a Chinese number
    r"|[\u3400-\u9fff]"  # a Chinese sign
    r"|[^\W\d_\u3400-\u9fff]+(?:['\u2019](?!s\b)[^\W\d_]+)*"  # a word, without its genitive
    r"|[^\w\s'\u2019]"
)
_NUMBER = re.compile(r"\d{1,12}(?:,\d{3})*(?:\.\d+)?")
_DIGITS = {sign: place for place, signs in enumerate(("〇零", *"一二三四五六七八九")) for sign in signs} | {"两": 2}
_SLOT = re.compile(r"(\{\w+\})")


@dataclass(frozen=True, slots=True)
class Token:
    """A word, a number or a sign of a sentence: its text in lower case, and its place in the sentence."""

    text: str
    start: int
    end: int

    @property
    def number(self) -> float | None:
        """The number that it is, in digits or in Chinese signs; None if it is none."""
        if _NUMBER.fullmatch(self.text):
            return float(self.text.replace(",", ""))
        return _chinese_number(self.text)


def tokens_of(sentence: str) -> list[Token]:
    """Return the words, numbers and signs of a sentence."""
    found = _TOKEN.finditer(sentence)
    return [
        Token(unicodedata.normalize("NFKC", one[0]).casefold().replace("\u2019", "'"), one.start(), one.end())
        for one in found
    ]


@dataclass(frozen=True, slots=True)
class Grammar:
    """The words and patterns of all languages.

    Attributes:
        words: sets of phrases by their use, such as negations; each phrase is a row of words.
        numbers: values of number words.
        decades: the last two digits of decades by their words.
        patterns: rows of words and slots, by what they spell: a slot's name, or "years.before" and the like.
        synonyms: groups of phrases that mean the same category.
    """

    words: Mapping[str, tuple[tuple[str, ...], ...]]
    numbers: Mapping[str, int]
    decades: Mapping[str, int]
    patterns: Mapping[str, tuple[tuple[str, ...], ...]]
    synonyms: tuple[tuple[str, ...], ...]

    def ends(self, use: str, tokens: Sequence[Token], at: int) -> int:
        """Return where the longest phrase of a use that begins at a token ends; `at` if there is none."""
        return max((at + len(one) for one in self.words.get(use, ()) if _stands(one, tokens, at)), default=at)

    def skip(self, uses: Sequence[str], tokens: Sequence[Token], at: int) -> int:
        """Return the place after all phrases of the uses that stand one after the other from a token on."""
        while (end := max(self.ends(use, tokens, at) for use in uses)) > at:
            at = end
        return at


class Matcher:
    """Matches a grammar's patterns with one sentence.

    Args:
        grammar: the words.
        tokens: the sentence.
        century: returns the year in which the decade of the given two last digits begins, such as 1970 for 70.
    """

    def __init__(self, grammar: Grammar, tokens: Sequence[Token], century: Callable[[int], int]) -> None:
        self.grammar, self.tokens, self._century = grammar, tokens, century

    def best(self, kind: str, at: int) -> tuple[int, str, tuple[Span, ...]] | None:
        """Return the longest phrase of a kind (years, price) at a token: its end, its meaning, its slots' values."""
        found = [
            (end, name.partition(".")[2], spans)
            for name, rows in self.grammar.patterns.items()
            if name.startswith(f"{kind}.")
            for row in rows
            for end, spans in self._row(row, at)
        ]
        return max(found, key=lambda one: one[0], default=None)

    def _row(self, row: Sequence[str], at: int) -> Iterator[tuple[int, tuple[Span, ...]]]:
        """Yield where a row of words and slots may end, with the slots' values."""
        if not row:
            yield at, ()
            return
        first, rest = row[0], row[1:]
        for end, value in self._part(first, at):
            starts = {end, self.grammar.skip(("articles",), self.tokens, end)} if rest else {end}
            for start in starts:
                for last, values in self._row(rest, start):
                    yield last, (*([] if value is None else [value]), *values)

    def _part(self, part: str, at: int) -> Iterator[tuple[int, Span | None]]:
        """Yield where a word or a slot that begins at a token may end, with the slot's value."""
        if at >= len(self.tokens):
            return
        token, slot = self.tokens[at], part.strip("{}")
        if part == slot:
            if token.text == part:
                yield at + 1, None
        elif slot == "time":
            for kind in ("{decade}", "{century}", "{year}"):
                yield from self._part(kind, at)
        elif slot in ("decade_word", "number", "count"):
            if (number := self._number(slot, token)) is not None:
                yield at + 1, (number, number)
        else:
            yield from self._spelt(slot, at)

    def _spelt(self, slot: str, at: int) -> Iterator[tuple[int, Span]]:
        """Yield where a slot that patterns spell may end, with its value."""
        for row in self.grammar.patterns.get(slot, ()):
            for end, values in self._row(row, at):
                if (span := self._span(slot, values[0][0])) is not None:
                    yield end, span

    def _number(self, slot: str, token: Token) -> float | None:
        """Return the number that a token is in a slot: in digits, or by a word where the slot takes words."""
        words = {"decade_word": self.grammar.decades, "count": self.grammar.numbers}.get(slot, {})
        if token.text in words:
            return words[token.text]
        return None if slot == "decade_word" else token.number

    def _span(self, slot: str, number: float) -> Span | None:
        """Return what a number means as a year, a decade or a century; None if it cannot be one."""
        if slot == "money":
            return number, number
        if number != int(number):
            return None
        whole = int(number)
        if slot == "year":
            return (whole, whole) if 1000 <= whole <= 2100 else None
        if slot == "century":
            return (100 * whole - 99, 100 * whole) if 1 <= whole <= 21 else None
        if whole % 10 or not (0 <= whole < 100 or 1000 <= whole <= 2100):
            return None
        first = self._century(whole) if whole < 100 else whole
        return first, first + 9


@lru_cache(maxsize=1)
def shipped_grammar() -> Grammar:
    """Return the grammar that genrec ships, of all its languages together."""
    tables = [tomllib.loads((resources.files(__package__) / f"{one}.toml").read_text("utf-8")) for one in LANGUAGES]
    words: dict[str, list[tuple[str, ...]]] = {}
    patterns: dict[str, list[tuple[str, ...]]] = {}
    numbers: dict[str, int] = {}
    decades: dict[str, int] = {}
    synonyms: list[tuple[str, ...]] = []
    for table in tables:
        numbers |= table["numbers"]
        decades |= table["decades"]
        synonyms += map(tuple, table["synonyms"]["same"])
        for name, value in table.items():
            if isinstance(value, list):
                words.setdefault(name, []).extend(map(_row_of, value))
        for name, rows in _patterns(table):
            patterns.setdefault(name, []).extend(map(_row_of, rows))
    return Grammar(
        {name: tuple(rows) for name, rows in words.items()},
        numbers,
        decades,
        {name: tuple(rows) for name, rows in patterns.items()},
        tuple(synonyms),
    )


def _patterns(table: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    yield from table["slots"].items()
    for kind in ("years", "price"):
        for name, rows in table[kind].items():
            yield f"{kind}.{name}", rows


def _row_of(text: str) -> tuple[str, ...]:
    """Return the words and slots of a pattern."""
    row: list[str] = []
    for part in _SLOT.split(text):
        row += [part] if part.startswith("{") else [token.text for token in tokens_of(part)]
    return tuple(row)


def _stands(phrase: Sequence[str], tokens: Sequence[Token], at: int) -> bool:
    return [token.text for token in tokens[at : at + len(phrase)]] == list(phrase)


def _chinese_number(text: str) -> float | None:
    """Return the number of Chinese signs: a row of digits, or tens and ones; None if it is none below 100."""
    if all(sign in _DIGITS for sign in text):
        return float("".join(str(_DIGITS[sign]) for sign in text))
    tens, ten, ones = text.partition("十")
    if not ten or any(len(part) > 1 or (part and part not in _DIGITS) for part in (tens, ones)):
        return None
    return float(10 * (_DIGITS[tens] if tens else 1) + (_DIGITS[ones] if ones else 0))
