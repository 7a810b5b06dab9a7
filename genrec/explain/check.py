"""The check of an explanation: it may use only names, numbers and attributes from the evidence and the catalogue.

Inside quotation marks, only items of the user's history and the recommended item may be named. Outside them, a text
must not contain another title of the catalogue, an attribute that the item does not have, a name or number that was
not given, the user's id, or a character that does not belong in a sentence.

A text must begin with the item that it explains and name its evidence after it. This keeps the two apart: a text that
presents the recommended item as one of the user's own choices fails the check.

Titles are also searched for outside quotation marks, because a model can name a film without quoting it. Two things are
not detected: a name that begins a sentence, and an unquoted title of one everyday word ("heat").
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from genrec.data.catalog import Catalog, Item
from genrec.explain.claims import Claim
from genrec.explain.entailment import is_in_language, repeats_itself, unheld_claims
from genrec.explain.names import WORD, name_of, named, outside_quotes, quoted

MOST_CHARACTERS = 600
MOST_ATTRIBUTE_WORDS = 4
"""Longer values, such as descriptions, are not searched for: a sentence does not state them by accident."""

FOREIGN_MARKS = re.compile('[\x00-\x1f\x7f"„‟«»「」『』《》〈〉<>{}\\[\\]|\\\\`#*@_~^=\ufffd]|https?:|www\\.')
"""Not allowed in a sentence outside names: other quotation marks, markup, control and incomplete characters, links."""
_ENDINGS = ".!?。！？"  # noqa: RUF001 - Chinese sentences end in their own marks


class Checker:
    """Checks explanations over one catalogue.

    Args:
        catalog: the items.
    """

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self._titles = {joined for item in catalog for joined in _titles(item)}
        self._attributes = {joined for item in catalog for joined in _attributes(item)}
        # The number of words in the longest title or attribute that is looked up.
        spans = [joined.count(" ") + 1 for joined in (*self._titles, *self._attributes)]
        self._longest = min(max(spans, default=1), 12)

    def problems(
        self,
        text: str,
        item: Item,
        history: Sequence[Item],
        evidence: Sequence[Item] = (),
        user: str = "",
        claims: Sequence[Claim] = (),
        language: str = "",
    ) -> list[str]:
        """Return the faults of an explanation; an empty list if it may be shown.

        Args:
            text: the explanation.
            item: the recommended item.
            history: the user's items.
            evidence: items of the history; if there are any, the text must name the item first, and then at least one
                of them.
            user: the user's id, which must not be in the text.
            claims: the claims that the evidence supports; if there are any, the text may make no others.
            language: the language that the text must be written in; any language if empty.
        """
        if not text or text[-1] not in _ENDINGS or len(text) > MOST_CHARACTERS:
            return ["it is not a sentence"]
        free = outside_quotes(text)
        problems = [*_wrong_names(text, free, item, history, evidence), *self._wrong_words(free, item, history, claims)]
        if (own_id := _runs_of(user)) and f" {own_id} " in f" {_runs_of(free)} ":
            problems.append("it holds the user's id")
        if claims:
            problems += unheld_claims(free, (claim.said for claim in claims), language)
        if language and not is_in_language(free, language):
            problems.append(f"it is not written in {language!r}")
        if repeats_itself(free):
            problems.append("it repeats itself")
        return problems

    def _wrong_words(self, free: str, item: Item, history: Sequence[Item], claims: Sequence[Claim]) -> Iterable[str]:
        """Yield the faults outside quoted names: forbidden marks, titles, attributes, names and numbers."""
        if marks := FOREIGN_MARKS.findall(free):
            yield f"it holds {marks[0]!r}"
        given = {joined for one in (*history, item) for joined in _titles(one)}
        own = _attributes(item)
        for run in self._runs([word.casefold() for word in WORD.findall(free)]):
            if run in self._titles and run not in given and _is_telling(run):
                yield f"it names {run!r}, which is not in the history"
            if run in self._attributes and run not in own:
                yield f"it says {run!r}, which the catalogue does not say of the item"
        # The values and counts of claims were given, too; a decade is written with an s.
        values = [value for claim in claims for value in (claim.value, claim.era, f"{claim.era or claim.value}s")]
        values += [f"{claim.count:,}" for claim in claims if claim.count]
        said = {word for joined in (*own, *map(_runs_of, values)) for word in joined.split(" ")}
        # A word of a given title is allowed by itself, but a number of a title is not.
        known = said | {word for joined in given for word in joined.split(" ") if not _has_digit(word)}
        yield from (f"it says {word!r}, which was not given" for word in _telling_words(free) if word not in known)

    def _runs(self, words: Sequence[str]) -> Iterable[str]:
        """Yield every run of a few words."""
        for start in range(len(words)):
            for end in range(start + 1, min(start + self._longest, len(words)) + 1):
                yield " ".join(words[start:end])


def _wrong_names(text: str, free: str, item: Item, history: Sequence[Item], evidence: Sequence[Item]) -> Iterable[str]:
    """Yield the faults of the names between quotation marks."""
    names = named(text)
    allowed = {name_of(one) for one in (*history, item)}
    yield from (f"it names “{name}”, which is not in the history" for name in names if name not in allowed)
    if evidence and not {name_of(one) for one in evidence} & set(names[1:]):
        yield "it names no evidence"
    if evidence and not text.startswith(quoted(item)):
        yield "it does not begin with the item"
    if free.count("“") != len(names) or free.count("”") != len(names):
        yield "its quotation marks do not match"


def citations_are_valid(text: str, item: Item, history: Sequence[Item]) -> bool:
    """Return whether every quoted name is that of the item or of an item in the history."""
    return set(named(text)) <= {name_of(one) for one in (*history, item)}


def _titles(item: Item) -> set[str]:
    return {_runs_of(name_of(item)), _runs_of(item.title)}


def _attributes(item: Item) -> set[str]:
    found = (_runs_of(value) for value in (*item.categories, *item.attributes.values()))
    # A value of one or two letters, such as a size, would be found in every second sentence.
    return {one for one in found if len(one) > (2 if one.isascii() else 0) and one.count(" ") < MOST_ATTRIBUTE_WORDS}


def _runs_of(text: str) -> str:
    return " ".join(word.casefold() for word in WORD.findall(text))


def _is_telling(run: str) -> bool:
    """Return whether unquoted words can be taken as a title: one word, such as "heat", can be an everyday word."""
    return run.count(" ") > 0


def _has_digit(word: str) -> bool:
    return any(character.isdecimal() for character in word)


def _telling_words(text: str) -> list[str]:
    """Return the words that state something by themselves, case-folded: numbers, and names within a sentence."""
    found = []
    for match in WORD.finditer(text):
        word = match.group()
        before = text[: match.start()].rstrip()
        begins = not before or before[-1] in _ENDINGS
        is_name = word[0].isupper() and word != "I" and not begins
        if is_name or _has_digit(word):
            found.append(word.casefold())
    return found
