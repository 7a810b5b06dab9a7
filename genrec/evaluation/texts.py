"""Figures of explanation texts: whether they mention the right features, how many they cover, and how they differ.

    FMR   feature matching ratio: the share of texts that mention the feature they should mention
    FCR   feature coverage ratio: the number of distinct features in all texts, over the number of all features
    DIV   feature diversity: the number of features that two texts share, averaged over all pairs; lower is better
    USR   unique sentence ratio: the number of distinct texts, over the number of all texts

Sources: Li, Zhang and Chen, "Generate neural template explanations for recommendation", CIKM 2020 (NETE), as used in
"Personalized transformer for explainable recommendation", ACL 2021 (PETER), section 5.3. distinct-n is from Li et al.,
"A diversity-promoting objective function for neural conversation models", NAACL 2016.

DIV is computed without a loop over pairs, which would be quadratic. A feature in n texts is shared by n (n - 1) / 2
pairs, and the sum over features is the same figure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from genrec.explain.names import WORD, outside_quotes


def unique_ratio(texts: Sequence[str]) -> float:
    """Return USR; 0 if there is no text."""
    return len(set(texts)) / len(texts) if texts else 0.0


def matching_ratio(held: Sequence[Collection[str]], wanted: Sequence[str]) -> float:
    """Return FMR.

    Args:
        held: the features that each text mentions.
        wanted: the feature that each text should mention; a text with an empty one is not counted.

    Returns:
        A share; NaN if no text should mention a feature.
    """
    judged = [one in own for own, one in zip(held, wanted, strict=True) if one]
    return sum(judged) / len(judged) if judged else float("nan")


def coverage_ratio(held: Sequence[Collection[str]], features: Collection[str]) -> float:
    """Return FCR; NaN if there are no features."""
    covered = {feature for own in held for feature in own} & set(features)
    return len(covered) / len(set(features)) if features else float("nan")


def feature_diversity(held: Sequence[Collection[str]]) -> float:
    """Return DIV; 0 if there are fewer than two texts."""
    counts = Counter(feature for own in held for feature in set(own))
    pairs = len(held) * (len(held) - 1) / 2
    return sum(count * (count - 1) / 2 for count in counts.values()) / pairs if pairs else 0.0


def distinct(texts: Sequence[str], size: int) -> float:
    """Return distinct-n: the number of distinct word n-grams, over the number of all n-grams.

    Args:
        texts: all texts.
        size: words in an n-gram.
    """
    runs: list[tuple[str, ...]] = []
    for text in texts:
        words = words_of(text)
        runs += [tuple(words[start : start + size]) for start in range(len(words) - size + 1)]
    return len(set(runs)) / len(runs) if runs else 0.0


def features_in(text: str, vocabulary: Mapping[str, str], longest: int = 6) -> frozenset[str]:
    """Return the features that a text mentions outside quoted names.

    Args:
        text: the text.
        vocabulary: each feature by its words, case-folded and joined by blanks.
        longest: the number of words in the longest feature.
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
