"""Latent factors: a world with two tastes, a score worked out by hand, and what every signal promises."""

from __future__ import annotations

import numpy as np
import pytest

from genrec.errors import ArtefactError, DataError
from genrec.signals.latent import Latent
from tests.genrec.signals.test_simple import LETTERS, LOG, SignalContract, catalog_of, history

TASTES = catalog_of("a", "b", "c", "x", "y", "z")
TWO_TASTES = (
    *(history(*pair, user=f"l{place}") for place, pair in enumerate(["ab", "bc", "ab", "bc"])),
    *(history(*pair, user=f"r{place}") for place, pair in enumerate(["xy", "yz", "xz", "yz"])),
)
"""Nobody took both a letter of the beginning and one of the end; a and c were never taken together."""


class TestContract(SignalContract):
    def make(self):
        return Latent.fit(LETTERS, LOG, dimension=2)


def test_taste_reaches_items_that_were_never_taken_together():
    scores = Latent.fit(TASTES, TWO_TASTES, dimension=2).score([history("a")])[0]
    assert scores[TASTES.row("c")] > 10 * np.abs(scores[3:]).max()


def test_the_score_by_hand():
    # One user, items a and b: the matrix is (1, 1) / sqrt(2), its right singular vector (1, 1) / sqrt(2); one
    # dimension of two items is all there is. n = 1 for both. score(j) = (decay * v(a) + v(b)) . v(j) = 0.9/2 + 1/2.
    log = (history("a", "b", user="1"), history("a", "b", user="2"))
    signal = Latent.fit(catalog_of("a", "b", "c"), log, power=0.5, decay=0.9)
    taken = 2**-0.5  # n(i) = 2^-1/2: two users each
    assert signal.score([history("a", "b")])[0] == pytest.approx([0.95 * taken, 0.95 * taken, 0], abs=1e-6)
    assert signal.score([history("b")])[0] == pytest.approx([0.5 * taken, 0.5 * taken, 0], abs=1e-6)


def test_popular_items_fill_less_of_the_dimensions_the_higher_the_power():
    log = [history("a", "b", user=str(number)) for number in range(6)] + [history("a", "c", user="x")]
    plain, scaled = (
        Latent.fit(catalog_of("a", "b", "c"), log, dimension=1, power=power).score([history("a")])[0]
        for power in (0.0, 1.0)
    )
    assert scaled[2] / scaled[0] > plain[2] / plain[0]


def test_the_factors_are_the_same_every_time():
    first, second = (Latent.fit(TASTES, TWO_TASTES, dimension=3) for _ in range(2))
    assert np.array_equal(first.factors, second.factors)


def test_a_log_too_small_for_one_dimension_says_nothing():
    signal = Latent.fit(LETTERS, [history("a")])
    assert not signal.score([history("a")]).any()
    assert not Latent.fit(LETTERS, []).score([history("a", "b")]).any()


def test_parameters_out_of_range():
    with pytest.raises(DataError, match="dimension must be at least 1; given 0"):
        Latent.fit(LETTERS, LOG, dimension=0)
    with pytest.raises(DataError, match="decay"):
        Latent.fit(LETTERS, LOG, decay=1.5)


def test_more_saved_items_than_the_catalogue_has():
    with pytest.raises(ArtefactError, match="knows 5 items, the catalogue has 2"):
        Latent.from_arrays(catalog_of("a", "b"), Latent.fit(LETTERS, LOG, dimension=2).to_arrays())
