"""The grammar: turns a list of recommendations and their evidence into sentences that do not repeat each other.

For every item, all possible claims are gathered (`genrec.explain.claims`). The claim is chosen that covers most of the
evidence's weight and tells a reader most; claims that the list has already made count less. Evidence that the chosen
claim does not cover is named after it. Then a form is chosen that begins differently from the sentence before.

The sentences of a list depend on that list alone, not on other users' lists, on the time, or on a global random
generator.
"""

# ruff: noqa: RUF001 - Chinese marks

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from genrec.data.catalog import Item
from genrec.explain.claims import Claim, HistoryFacts, Said, claims_about
from genrec.explain.evidence import Evidence, Length, Tone
from genrec.explain.facts import CatalogueFacts
from genrec.explain.names import WORD, outside_quotes
from genrec.explain.style import BASES, Style

COVERING = 0.8
"""If the items of a claim have this share of the evidence's weight, no other items are named beside them."""

_SAME_KIND, _SAME_FEATURE, _NEIGHBOUR = 0.8, 2.6, 1.6
"""What counts against a claim for each time the list has made one of its kind, or about the same thing, and for being
of the last sentence's kind."""


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason in words, with its claims.

    Attributes:
        text: one or two sentences.
        claims: the claims of the text, the main one first.
        cited: the items of the history that the text names.
    """

    text: str
    claims: tuple[Claim, ...]
    cited: tuple[Item, ...]

    @property
    def features(self) -> frozenset[str]:
        """The features of the catalogue that the reason mentions."""
        return frozenset(claim.feature for claim in self.claims if claim.feature)


@dataclass(slots=True)
class _Told:
    """The claims and forms that a list has used so far."""

    kinds: Counter[str] = field(default_factory=Counter)
    features: Counter[str] = field(default_factory=Counter)
    forms: Counter[str] = field(default_factory=Counter)
    last_kind: str = ""
    last_beginning: str = ""


class Grammar:
    """Puts the evidence of whole lists into words.

    Args:
        facts: the catalogue's facts.
        style: the wording of the claims.
        people: how many people took both of two items; None if the log does not show it.
        takers: how many people took an item; None if the log does not show it.
        is_new: whether an item was added after the training.
        is_popular: whether an item is among the most taken.
        item_first: begin every sentence with the item if there is such a form, as the model's own texts do.
    """

    def __init__(
        self,
        facts: CatalogueFacts,
        style: Style,
        people: Callable[[Item, Item], int] | None = None,
        takers: Callable[[Item], int] | None = None,
        is_new: Callable[[Item], bool] = lambda item: False,
        is_popular: Callable[[Item], bool] = lambda item: True,
        *,
        item_first: bool = False,
    ) -> None:
        self._facts = facts
        self._style = style
        self._people = people
        self._takers = takers
        self._is_new = is_new
        self._is_popular = is_popular
        self._item_first = item_first

    def reasons(
        self,
        items: Sequence[Item],
        evidence: Sequence[Evidence],
        history: Sequence[Item],
        tone: Tone = "plain",
        length: Length = "short",
        taste: str = "",
    ) -> list[Reason]:
        """Return one reason for each item of a list.

        Args:
            items: the recommended items, in the list's order.
            evidence: the evidence for each item.
            history: the user's items, oldest first.
            tone: plain or warm.
            length: one sentence, or up to two.
            taste: the user's description of their taste.
        """
        told, own = _Told(), HistoryFacts(self._facts, history)
        seed = " ".join([*(item.id for item in items), *(item.id for item in history)])
        reasons = []
        for place, (item, found) in enumerate(zip(items, evidence, strict=True)):
            ranked = self._ranked(self._claims(item, found, own, taste), found, told)
            reason = self._said(item, found, ranked, told, tone, f"{seed} {place}")
            if length == "long":
                reason = self._with_second(item, reason, ranked, told)
            reasons.append(reason)
            told.kinds.update(claim.said for claim in reason.claims)
            told.features.update(reason.features)
            told.last_kind, told.last_beginning = reason.claims[0].said, beginning(reason.text)
        return reasons

    def _claims(self, item: Item, found: Evidence, history: HistoryFacts, taste: str) -> list[Claim]:
        """Return all possible claims about one item."""
        if found.items and found.kind in BASES:
            basis: Said = found.kind
            return claims_about(item, found.items, history, basis, self._people, new=self._is_new(item))
        if found.kind == "again":
            times = sum(one.id == item.id for one in history.items)
            return [Claim("again-count", count=times), Claim("again")] if times > 1 else [Claim("again")]
        if found.kind == "taste":
            mentioned = (one for one in self._facts[item].categories if _mentions(taste, one))
            return [
                *(Claim("taste-category", value=one, strength=2.0) for one in mentioned),
                Claim("taste", strength=1.0),
            ]
        if self._takers is not None and (takers := self._takers(item)) > 2:
            return [Claim("popular-count", count=takers)]
        if self._takers is None and self._is_popular(item):
            return [Claim("popular")]
        return [Claim("nothing")]

    def _ranked(self, claims: Sequence[Claim], found: Evidence, told: _Told) -> list[Claim]:
        """Return the claims, the best first."""
        weights = found.weights_by_item()

        def worth(claim: Claim) -> float:
            covered = sum(weights.get(one.id, 0.0) for one in claim.items) if claim.items else 1.0
            value = claim.strength * (0.35 + 0.65 * covered)
            value -= _SAME_KIND * told.kinds[claim.said] + _NEIGHBOUR * (claim.said == told.last_kind)
            return value - (_SAME_FEATURE * told.features[claim.feature] if claim.feature else 0.0)

        return sorted(claims, key=worth, reverse=True)

    def _said(self, item: Item, found: Evidence, ranked: Sequence[Claim], told: _Told, tone: Tone, seed: str) -> Reason:
        """Return the best claim in words that begin differently from the sentence before."""
        fallback: Reason | None = None
        for claim in ranked:
            for form in self._forms(claim, told, tone, seed):
                text = self._style.say(form, item, claim)
                reason = self._with_rest(item, Reason(text, (claim,), claim.items), found, seed)
                if fallback is None or (_ends_twice(fallback.text) and not _ends_twice(reason.text)):
                    fallback = reason
                two_clauses = len(reason.claims) > 1 and bool(re.search("[;；]", outside_quotes(text)))
                if beginning(text) != told.last_beginning and not _ends_twice(reason.text) and not two_clauses:
                    told.forms[form] += 1
                    return reason
        assert fallback is not None  # noqa: S101 - there is always something to say, and a form for it
        return fallback

    def _forms(self, claim: Claim, told: _Told, tone: Tone, seed: str) -> Iterator[str]:
        """Yield the forms of a claim, the least used first, and otherwise in an order that the list determines."""
        forms = self._style.forms[claim.said]
        groups = [forms["more"]] if told.features[claim.feature] and claim.feature and "more" in forms else []
        if self._item_first:
            leading = [form for form in (*forms[tone], *forms["plain"]) if form.startswith("{item}")]
            yield from sorted(leading, key=lambda form: _drawn(f"{seed} {form}"))
        for group in [*groups, forms[tone]]:
            yield from sorted(group, key=lambda form: (told.forms[form], _drawn(f"{seed} {form}")))

    def _with_rest(self, item: Item, reason: Reason, found: Evidence, seed: str) -> Reason:
        """Return the reason, extended by the evidence that its claim does not cover, if that evidence has weight."""
        (claim,) = reason.claims
        named = {one.id for one in claim.items}
        weights = found.weights_by_item()
        rest = tuple(one for one in found.items if one.id not in named)
        if found.kind != "moved" or not rest or sum(weights[one] for one in named) >= COVERING:
            return reason
        clauses = self._style.rest[found.kind]
        clause = min(clauses, key=lambda one: _drawn(f"{seed} {one}"))
        added = replace(claim, items=rest)
        end = reason.text[-1]
        text = reason.text[:-1] + self._style.say(clause, item, added) + end
        return replace(reason, text=text, claims=(claim, Claim(found.kind, rest)), cited=(*reason.cited, *rest))

    def _with_second(self, item: Item, reason: Reason, ranked: Sequence[Claim], told: _Told) -> Reason:
        """Return the reason with a second sentence, if another claim is possible."""
        first = reason.claims[0]
        about = {first.value, first.era} - {""}
        for claim in sorted(ranked, key=lambda claim: told.kinds[claim.said]):
            forms = self._style.forms[claim.said].get("second")
            if not forms or claim.said in BASES or claim.said == first.said or about & {claim.value, claim.era}:
                continue
            text = self._style.say(min(forms, key=lambda form: told.forms[form]), item, claim)
            if _ends_twice(text):
                continue
            blank = "" if self._style.language.startswith(("zh", "ja")) else " "
            named = {one.id for one in reason.cited}
            cited = (*reason.cited, *(one for one in claim.items if one.id not in named))
            return replace(reason, text=reason.text + blank + text, claims=(*reason.claims, claim), cited=cited)
        return reason


def beginning(text: str) -> str:
    """Return how a sentence begins: its first word, or one fixed mark for any name."""
    if text.startswith("“"):
        return "“"
    first = re.match(r"[\u3400-\u9fff]|[^\s,.:;!?]+", text)
    return first.group().casefold() if first else text[:1]


def _ends_twice(text: str) -> bool:
    """Return whether the last word is a name with its own end mark; “Who Is It?”. would read badly."""
    return bool(re.search("[.?!…。？！]”[.?!。？！]$", text))


def _mentions(text: str, words: str) -> bool:
    """Return whether a text holds some words, as whole words."""
    inside, outside = (" ".join(WORD.findall(one.casefold())) for one in (words, text))
    return bool(inside) and f" {inside} " in f" {outside} "


def _drawn(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=8).digest()
