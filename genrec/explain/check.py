"""The check of an explanation: whatever it names was given to it, and what it says of the item the catalogue says too.

A text is free where no name, no number and no attribute stands; so these are what is looked for. Between quotation
marks only names of the user's own history and of the recommended item may stand. Outside them no title of the
catalogue may stand, no attribute that the item does not have, no name or number that was not given, no user id, and
no mark that has no business in a sentence.

A text begins with the item that it explains, and names evidence after it: so it can be seen which is which, and a text
that has the user choose what is only now recommended is found out.

The easy mistake is to look for quoted titles alone: a model that names a film in plain words has named it all the same.
What it cannot see: a name that begins a sentence, and a title of one everyday word ("heat") that is not quoted.
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
"""A longer value (a description) is no attribute that a sentence states by accident."""

FOREIGN_MARKS = re.compile('[\x00-\x1f\x7f"„‟«»「」『』《》〈〉<>{}\\[\\]|\\\\`#*@_~^=\ufffd]|https?:|www\\.')
"""What has no business in a sentence outside names: other quotation marks, markup, controls, half characters."""
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
        # The longest run of words worth looking up; a longer title is found by its label.
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
        """Return what is wrong with an explanation; nothing where it may be shown.

        Args:
            text: the explanation.
            item: what it explains.
            history: the user's items.
            evidence: items of the history; where there are any, a text names the item first, and then at least one
                of them.
            user: the user's id, which must not be in the text.
            claims: what the evidence says of the item; where there are any, the text may claim nothing else.
            language: what the text must be written in; any where left out.
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
        """Yield what is wrong with the words outside names: foreign marks, titles, attributes, names and numbers."""
        if marks := FOREIGN_MARKS.findall(free):
            yield f"it holds {marks[0]!r}"
        given = {joined for one in (*history, item) for joined in _titles(one)}
        own = _attributes(item)
        for run in self._runs([word.casefold() for word in WORD.findall(free)]):
            if run in self._titles and run not in given and _is_telling(run):
                yield f"it names {run!r}, which is not in the history"
            if run in self._attributes and run not in own:
                yield f"it says {run!r}, which the catalogue does not say of the item"
        # What a claim counts or values was given, too; a decade is written with an s.
        values = [value for claim in claims for value in (claim.value, claim.era, f"{claim.era or claim.value}s")]
        values += [f"{claim.count:,}" for claim in claims if claim.count]
        said = {word for joined in (*own, *map(_runs_of, values)) for word in joined.split(" ")}
        # A number out of a title means nothing by itself; a name does.
        known = said | {word for joined in given for word in joined.split(" ") if not _has_digit(word)}
        yield from (f"it says {word!r}, which was not given" for word in _telling_words(free) if word not in known)

    def _runs(self, words: Sequence[str]) -> Iterable[str]:
        """Yield every run of a few words."""
        for start in range(len(words)):
            for end in range(start + 1, min(start + self._longest, len(words)) + 1):
                yield " ".join(words[start:end])


def _wrong_names(text: str, free: str, item: Item, history: Sequence[Item], evidence: Sequence[Item]) -> Iterable[str]:
    """Yield what is wrong with the names between quotation marks."""
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
    """Return whether every name between quotation marks is the item's or of the history."""
    return set(named(text)) <= {name_of(one) for one in (*history, item)}


def _titles(item: Item) -> set[str]:
    return {_runs_of(name_of(item)), _runs_of(item.title)}


def _attributes(item: Item) -> set[str]:
    found = (_runs_of(value) for value in (*item.categories, *item.attributes.values()))
    # A value of one or two letters, a size say, would be found in every second sentence.
    return {one for one in found if len(one) > (2 if one.isascii() else 0) and one.count(" ") < MOST_ATTRIBUTE_WORDS}


def _runs_of(text: str) -> str:
    return " ".join(word.casefold() for word in WORD.findall(text))


def _is_telling(run: str) -> bool:
    """Return whether a run of words is a title and not everyday words: "Heat" in lower case is just heat."""
    return run.count(" ") > 0


def _has_digit(word: str) -> bool:
    return any(character.isdecimal() for character in word)


def _telling_words(text: str) -> list[str]:
    """Return the words that claim something by themselves, case-folded: numbers, and names within a sentence."""
    found = []
    for match in WORD.finditer(text):
        word = match.group()
        before = text[: match.start()].rstrip()
        begins = not before or before[-1] in _ENDINGS
        is_name = word[0].isupper() and word != "I" and not begins
        if is_name or _has_digit(word):
            found.append(word.casefold())
    return found
