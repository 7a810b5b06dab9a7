"""The claims that a text may make: a small entailment check between evidence and sentence, by patterns.

A word such as "series", "cheaper" or "popular" makes a claim. It is allowed only if the evidence includes a claim of
that kind. Praise is never allowed, nor is a statement that only the user could make ("you loved it"). The patterns are
few and broad, because a false alarm only replaces the model's text by the grammar's sentence, while a miss costs a
reader's trust.

Names are not searched: “The Best of Times” praises nothing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from genrec.explain.names import WORD

_FAMILIES: dict[str, tuple[tuple[frozenset[str], str], ...]] = {
    "en": (
        (frozenset({"maker"}), r"authors?|brands?|makers?|directors?|manufacturers?|studios?|artists?|by the same"),
        (frozenset({"series", "sequel"}),
         r"series|sequels?|prequels?|franchise|saga|instal?lments?|next (one|part|in line)|part \w+"),
        (frozenset({"people", "popular", "together"}),
         r"people|users|others|customers|viewers|readers|everyone|everybody|fans|many"),
        (frozenset({"people", "together"}),
         r"(often|usually|frequently) (chosen|taken|bought|picked)|go(es)? together|chosen (close|near)"),
        (frozenset({"popular"}),
         r"popular\w*|best-?sell\w*|famous|well-known|trending|acclaimed|award\w*|top-rated|beloved|hits?"),
        (frozenset({"new"}), r"brand-?new|new in|newly|just (out|released)|new releases?"),
        (frozenset({"newest"}), r"latest|recent\w*|lately|just (chose|chosen|picked)"),
        (frozenset({"category-more", "maker-more", "series-more"}),
         r"always|keep (coming|choosing)|long-standing|over time|regularly|again and again|favou?rites?"),
        (frozenset({"era", "category-era"}), r"decades?|eras?|\w+ties|century|classics?|vintage|old-fashioned"),
        (frozenset({"price"}),
         r"pric\w+|cheap\w*|costs?|affordable|expensive|discount\w*|bargains?|on sale|value for money"),
        (frozenset({"category", "category-era", "category-more"}), r"genres?|shel(f|ves)|filed|categor(y|ies)"),
        (frozenset({"taste"}), r"you (describe|mention|told|say)"),
        (frozenset({"again"}), r"(chose|chosen|picked) (it|this) before|again for you"),
        (frozenset(),
         r"best|greatest|perfect\w*|must-(see|have|read)|amazing|masterpieces?|excellent|superb|stunning|"
         r"incredible|unforgettable"),
        (frozenset(),
         r"your? (?!may|might|could|can|would|should)(\w+ )?(lov\w+|lik(e|ed)|enjoy\w*|hat\w+|"
         r"watch\w*|bought|read|rated|reviewed|said)"),
        (frozenset(), r"(starr\w+|directed|written|featur\w+|plot|story|characters?|ingredients?|tastes? (of|like))"),
    ),
    "zh": (
        (frozenset({"maker"}), "作者|品牌|导演|厂商|出自|同一家"),
        (frozenset({"series", "sequel"}), "系列|续集|前传|续作|下一部"),
        (frozenset({"people", "popular", "together"}), "人们|用户|大家|顾客|观众|读者|很多人|不少人"),
        (frozenset({"people", "together"}), "常常一起|经常一起|先后被选择"),
        (frozenset({"popular"}), "受欢迎|热门|畅销|著名|有名|获奖|好评|流行"),
        (frozenset({"new"}), "新品|新上|刚上架|新添"),
        (frozenset({"newest"}), "最近|刚刚|近来"),
        (frozenset({"category-more", "maker-more", "series-more"}), "一直|一向|长期|历来|最爱"),
        (frozenset({"era", "category-era"}), "年代|世纪|经典|怀旧|复古"),
        (frozenset({"price"}), "价格|便宜|实惠|优惠|打折|划算|昂贵"),
        (frozenset({"taste"}), "您描述|您提到|您说"),
        (frozenset(), "最好|最佳|完美|必看|必买|杰作|绝佳|精彩绝伦|惊艳"),
        (frozenset(), "(您|你)(很|非常|一定)?(喜欢|喜爱|爱|讨厌|看过|买过|读过|评过)"),
        (frozenset(), "主演|执导|剧情|情节|角色|讲述|配料|口味"),
    ),
}  # fmt: skip
_COMPILED = {
    language: [
        (families, re.compile(rf"(?i)\b(?:{pattern})\b" if language == "en" else f"(?:{pattern})"))
        for families, pattern in patterns
    ]
    for language, patterns in _FAMILIES.items()
}

_RUN = 4
"""A run of this many words that occurs twice in a text is repetition; in Chinese, of twice as many characters."""


def unheld_claims(free: str, said: Iterable[str], language: str) -> list[str]:
    """Return the claims of a text that the evidence does not support.

    Args:
        free: the text outside names.
        said: the kinds of claims that the evidence supports.
        language: the language of the patterns; nothing is found in a language without patterns.
    """
    held = set(said)
    held |= {kind.split("-")[0] for kind in held}
    problems = []
    for families, pattern in _COMPILED.get(language, []):
        if not families & held and (found := pattern.search(free)):
            problems.append(f"it claims {found.group()!r}, which the evidence does not hold")
    return problems


def is_in_language(free: str, language: str) -> bool:
    """Return whether the letters outside names are those of a language; any are, of one that is not known here."""
    letters = [one for one in free if one.isalpha()]
    chinese = sum("\u3400" <= one <= "\u9fff" for one in letters)
    if language == "zh":
        return chinese >= 0.5 * len(letters) and chinese > 0
    if language == "en":
        return chinese == 0 and sum(one.isascii() for one in letters) >= 0.9 * len(letters)
    return True


def repeats_itself(free: str) -> bool:
    """Return whether a text repeats a run of words, or one word three times in a row."""
    words = [word.casefold() for word in WORD.findall(free)]
    if any(len(set(words[place : place + 3])) == 1 for place in range(len(words) - 2)):
        return True
    size = _RUN if sum(word.isascii() for word in words) >= len(words) / 2 else 2 * _RUN
    runs = Counter(tuple(words[place : place + size]) for place in range(len(words) - size + 1))
    return bool(runs) and max(runs.values()) > 1
