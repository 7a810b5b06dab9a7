"""Figures of texts: how often they speak of what they should, how much of it all they cover, how much they differ.

    FMR   feature matching ratio: the share of texts that hold the feature which they were to speak of
    FCR   feature coverage ratio: the different features that all texts hold, over all features there are
    DIV   feature diversity: how many features two texts have in common, a mean over all pairs; lower is better
    USR   unique sentence ratio: the different texts, over all texts

Source: Li, Zhang and Chen, "Generate neural template explanations for recommendation", CIKM 2020 (NETE), as they are
used in "Personalized transformer for explainable recommendation", ACL 2021 (PETER), section 5.3; distinct-n is Li et
al., "A diversity-promoting objective function for neural conversation models", NAACL 2016.

The easy mistake is DIV by a loop over pairs, which is quadratic: a feature that n texts hold is shared by n (n - 1) / 2
pairs, and summing over features gives the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from genrec.explain.names import WORD, outside_quotes


def unique_ratio(texts: Sequence[str]) -> float:
    """Return USR; 0 where there is no text."""
    return len(set(texts)) / len(texts) if texts else 0.0


def matching_ratio(held: Sequence[Collection[str]], wanted: Sequence[str]) -> float:
    """Return FMR.

    Args:
        held: the features that each text holds.
        wanted: the one that each was to speak of; texts with an empty one do not count.

    Returns:
        A share; NaN where no text was to speak of a feature.
    """
    judged = [one in own for own, one in zip(held, wanted, strict=True) if one]
    return sum(judged) / len(judged) if judged else float("nan")


def coverage_ratio(held: Sequence[Collection[str]], features: Collection[str]) -> float:
    """Return FCR; NaN where there are no features."""
    covered = {feature for own in held for feature in own} & set(features)
    return len(covered) / len(set(features)) if features else float("nan")


def feature_diversity(held: Sequence[Collection[str]]) -> float:
    """Return DIV; 0 where there are fewer than two texts."""
    counts = Counter(feature for own in held for feature in set(own))
    pairs = len(held) * (len(held) - 1) / 2
    return sum(count * (count - 1) / 2 for count in counts.values()) / pairs if pairs else 0.0


def distinct(texts: Sequence[str], size: int) -> float:
    """Return distinct-n: the share of runs of words that are different.

    Args:
        texts: all texts.
        size: words in a run.
    """
    runs: list[tuple[str, ...]] = []
    for text in texts:
        words = words_of(text)
        runs += [tuple(words[start : start + size]) for start in range(len(words) - size + 1)]
    return len(set(runs)) / len(runs) if runs else 0.0


def features_in(text: str, vocabulary: Mapping[str, str], longest: int = 6) -> frozenset[str]:
    """Return the features that a text speaks of outside of the names that it gives.

    Args:
        text: the text.
        vocabulary: features by their words, case-folded and joined by blanks.
        longest: words of the longest feature.
    """
    words = words_of(outside_quotes(text))
    runs = (
        " ".join(words[start:end])
        for start in range(len(words))
        for end in range(start + 1, min(start + longest, len(words)) + 1)
    )
    return frozenset(vocabulary[run] for run in runs if run in vocabulary)


def words_of(text: str) -> list[str]:
    """Return a text's words, case-folded."""
    return WORD.findall(text.casefold())
