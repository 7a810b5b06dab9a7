"""A style: the sentences for each kind of claim, read from a TOML file and checked before use.

genrec ships two styles, `en` and `zh`, in `styles/`. A shop may give a file with its own words, in its own language.
The file must have sentences for every kind of claim, since it is not known beforehand which kinds will occur.

A sentence is text with fields in braces. All fields are filled in one pass, so braces in a title are not filled.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any, get_args

from genrec.data.catalog import Item
from genrec.errors import ConfigError
from genrec.explain.claims import WITHOUT_NAMES, Claim, Said
from genrec.explain.names import quoted

TONES = ("plain", "warm")
PLACES = (*TONES, "more", "second")
BASES = ("moved", "together", "alike", "given")
SHIPPED = ("en", "zh")

_FIELD = re.compile(r"\{([^{}]*)\}")
_VALUED = frozenset(
    said for said in get_args(Said) if said.startswith(("maker", "series", "category", "price", "taste-"))
)
_COUNTED = frozenset(said for said in get_args(Said) if said.endswith(("-more", "-count")) or said == "people")
_DECADED = frozenset({"era", "category-era"})
_OPEN = re.compile(
    r"(?i)[aeio](?!ne(?![a-z])|nce(?![a-z]))|u(?!ni|ne|se|ti|fo|k(?![a-z]))|hour|hono|heir|8|11(?!\d)|18(?!\d)"
)
"""Matches words that begin with a vowel sound, in most cases."""
_SPELT = re.compile(r"[FHLMNRSX](?:[B-DF-HJ-NP-TV-Z]*(?![A-Za-z])|-)")
"""Capitals that are read letter by letter, the first with a vowel sound: NYX, MTV, X-ray."""


@dataclass(frozen=True, slots=True)
class Style:
    """How claims are worded in one language.

    Attributes:
        language: its code, such as en.
        forms: sentences by kind of claim, then by use (plain, warm, more, second).
        rest: clauses by kind of evidence; they name the evidence that a sentence does not cover.
        comma: the separator between names.
        last: the separator before the last name.
        numbers: words for one, two and so on; larger numbers are written in digits.
        decade: how a decade is written.
        thousands: the separator between groups of digits in large numbers.
    """

    language: str
    forms: Mapping[str, Mapping[str, tuple[str, ...]]]
    rest: Mapping[str, tuple[str, ...]]
    comma: str = ", "
    last: str = ", "
    numbers: tuple[str, ...] = ()
    decade: str = "{year}"
    thousands: str = field(default=",")

    def names(self, items: Sequence[Item]) -> str:
        """Return the names of items as a list in a sentence."""
        quotations = [quoted(item) for item in items]
        if len(quotations) < 2:
            return "".join(quotations)
        return self.last.join([self.comma.join(quotations[:-1]), quotations[-1]])

    def number(self, count: int) -> str:
        """Return a number as it stands in a sentence."""
        if 0 < count <= len(self.numbers):
            return self.numbers[count - 1]
        return f"{count:,}".replace(",", self.thousands)

    def say(self, form: str, item: Item, claim: Claim) -> str:
        """Return a sentence or clause with its fields filled."""
        several = len(claim.items) > 1

        def fill(found: re.Match[str]) -> str:
            name = found.group(1)
            if "|" in name:
                counted = name.startswith("count:")
                return name.removeprefix("count:").split("|")[claim.count != 1 if counted else several]
            if name == "item":
                return quoted(item)
            if name == "names":
                return self.names(claim.items)
            if name == "names+":
                return self.comma.join(map(quoted, claim.items))
            if name == "count":
                return self.number(claim.count)
            if name == "era":
                return self.decade.replace("{year}", claim.era or claim.value)
            return with_article(claim.value) if name == "a:value" else claim.value

        text = _FIELD.sub(fill, form)
        # A name in small letters, such as "e.l.f.", keeps them; a word that begins the sentence does not.
        starts_with_word = not form.startswith("{") or form.startswith(("{count}", "{a:"))
        return text[:1].upper() + text[1:] if starts_with_word else text


def with_article(value: str) -> str:
    """Return the value with "a" or "an" before it, by its first sound."""
    closed = re.match("(?i)eu|ew", value)
    sounds_open = _SPELT.match(value) or (_OPEN.match(value) and not closed)
    return f"{'an' if sounds_open else 'a'} {value}"


def load_style(file: Path) -> str:
    """Return a style file's text, checked.

    Raises:
        ConfigError: the file cannot be read or is not a valid style; the message lists all faults.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"the style {file} cannot be read: {error}"]) from None
    try:
        parse_style(text)
    except ConfigError as error:
        raise ConfigError([f"the style {file}: {problem}" for problem in error.problems]) from None
    return text


def shipped_style(language: str) -> Style:
    """Return a style that ships with genrec."""
    return parse_style(_shipped_text(language))


@lru_cache(maxsize=8)
def _shipped_text(language: str) -> str:
    return (resources.files("genrec.explain") / "styles" / f"{language}.toml").read_text(encoding="utf-8")


@lru_cache(maxsize=8)
def parse_style(text: str) -> Style:
    """Read a style from TOML.

    Raises:
        ConfigError: it is not a valid style; the message lists all faults.
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([f"it is not TOML: {error}"]) from None
    problems = [f"{name!r} is not known" for name in data if name not in Style.__dataclass_fields__]
    plain = {name: data[name] for name in ("language", "comma", "last", "decade", "thousands") if name in data}
    problems += [f"{name} is {value!r}; expected a text" for name, value in plain.items() if not isinstance(value, str)]
    if not plain.get("language"):
        problems.append('language is missing; expected a code such as "en"')
    if "{year}" not in str(plain.get("decade", "{year}")):
        problems.append("decade does not hold {year}")
    numbers = _texts(data.get("numbers", []), "numbers", problems)
    forms = _read_forms(_table(data.get("forms"), "forms", problems), problems)
    rest = _read_rest(_table(data.get("rest"), "rest", problems), problems)
    if problems:
        raise ConfigError(problems)
    return Style(forms=forms, rest=rest, numbers=numbers, **plain)


def _read_forms(table: Mapping[str, Any], problems: list[str]) -> dict[str, dict[str, tuple[str, ...]]]:
    """Return the sentences of each kind of claim, and add any faults to the problems."""
    problems += [f"forms.{said} is missing" for said in get_args(Said) if said not in table]
    problems += [f"forms.{said} is not known" for said in table if said not in get_args(Said)]
    forms: dict[str, dict[str, tuple[str, ...]]] = {}
    for said in (said for said in get_args(Said) if said in table):
        forms[said] = {}
        for place, texts in _table(table[said], f"forms.{said}", problems).items():
            where = f"forms.{said}.{place}"
            if place not in PLACES:
                problems.append(f"{where} is not known; expected {', '.join(PLACES)}")
                continue
            forms[said][place] = _texts(texts, where, problems)
            for form in forms[said][place]:
                problems += [f"{where}, {form!r}: {one}" for one in _wrong_with(form, said, place)]
        for tone in TONES:
            if len({_beginning(form) for form in forms[said].get(tone, ())}) < 2:
                problems.append(f"forms.{said}.{tone}: give at least two sentences that begin differently")
    return forms


def _read_rest(table: Mapping[str, Any], problems: list[str]) -> dict[str, tuple[str, ...]]:
    """Return the clauses for evidence that a sentence does not cover, and add any faults to the problems."""
    problems += [f"rest.{base} is not known; expected {', '.join(BASES)}" for base in table if base not in BASES]
    problems += [f"rest.{base} is missing" for base in BASES if not table.get(base)]
    clauses = {base: _texts(table.get(base, []), f"rest.{base}", problems) for base in BASES}
    for base, texts in clauses.items():
        problems += [f"rest.{base}, {form!r}: {one}" for form in texts for one in _wrong_with(form, base, "rest")]
    return clauses


def _table(value: Any, where: str, problems: list[str]) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    problems.append(f"{where} is {'missing' if value is None else repr(value)}; expected a table")
    return {}


def _texts(value: Any, where: str, problems: list[str]) -> tuple[str, ...]:
    if isinstance(value, list) and all(isinstance(one, str) and one.strip() for one in value):
        return tuple(value)
    problems.append(f"{where} is {value!r}; expected a list of texts")
    return ()


def _wrong_with(form: str, said: str, place: str) -> list[str]:
    """Return the faults of one sentence's fields and marks."""
    found = _FIELD.findall(form)
    allowed = {"item", "names"} if said not in WITHOUT_NAMES else {"item"}
    allowed |= {"value", "a:value"} if said in _VALUED else set()
    allowed |= {"count"} if said in _COUNTED else set()
    allowed |= {"era"} if said in _DECADED else set()
    allowed -= {"item"} if place in ("second", "rest") else set()
    expected = ", ".join(f"{{{one}}}" for one in sorted(allowed))
    problems = [
        f"{{{name}}} cannot stand here; expected two forms, for one name (or one of a count) and for several"
        for name in found
        if name.count("|") > 1 or ("count:" in name and "count" not in allowed)
    ]
    problems += [
        f"{{{name}}} cannot stand here; expected {expected} or {{one|several}}"
        for name in found
        if name.removesuffix("+") not in allowed and "|" not in name
    ]
    found = ["names" if name == "names+" else name for name in found]
    once = sorted(allowed & {"item", "names"})
    problems += [f"{{{name}}} must stand in it once" for name in once if found.count(name) != 1]
    problems += [f"{{{name}}} must stand in it" for name in sorted(allowed & {"count"}) if name not in found]
    bare = _FIELD.sub("", form)
    problems += [f"{mark} stands for names only" for mark in "“”{}" if mark in bare]
    if place != "rest" and not form.rstrip().endswith((".", "!", "?", "。", "！", "？")):  # noqa: RUF001
        problems.append("it does not end as a sentence does")
    return problems


def _beginning(form: str) -> str:
    """Return how a form begins: with a field, or with its first word (its first character, in Chinese)."""
    if field_first := _FIELD.match(form):
        name = field_first.group()
        return "“" if name in ("{item}", "{names}", "{names+}") else name
    first = re.match(r"[\u3400-\u9fff]|[^\s{,.:;!?]+", form)
    return first.group().casefold() if first else form[:1]
