"""What every implementation of a protocol must keep; a test class inherits it and says how one is made."""

from __future__ import annotations

import numpy as np
import pytest

from retrieval.encoders import Encoder

TITLES = [
    "Toy Story",
    "The Godfather: Part II",
    "💩 Emoji Movie 🎬",
    "מלך האריות",
    "千と千尋の神隠し",
    "a",
    "-",
    "Toy Story",
]
BLANKS = ["", "   ", "\n\t"]
LONG = "once upon a time " * 500


class EncoderContract:
    """The laws of `retrieval.encoders.Encoder`; a subclass gives the fixture `encoder`."""

    @pytest.fixture
    def encoder(self) -> Encoder:
        raise NotImplementedError("give the encoder under test")

    def test_gives_one_row_of_length_one_per_text(self, encoder):
        vectors = encoder.encode([*TITLES, LONG])
        assert vectors.dtype == np.float32
        assert vectors.shape == (len(TITLES) + 1, encoder.dimension)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)

    def test_gives_zeros_for_a_blank_text(self, encoder):
        vectors = encoder.encode([BLANKS[0], "Toy Story", *BLANKS[1:]])
        assert not vectors[[0, 2, 3]].any()
        assert vectors[1].any()
        assert encoder.encode(BLANKS).shape == (3, encoder.dimension)

    def test_gives_no_row_for_no_text(self, encoder):
        assert encoder.encode([]).shape == (0, encoder.dimension)

    def test_a_row_depends_on_its_own_text_only(self, encoder):
        texts = [*TITLES, LONG, *BLANKS]
        together = encoder.encode(texts)
        alone = np.concatenate([encoder.encode([text]) for text in texts])
        backwards = encoder.encode(texts[::-1])[::-1]
        np.testing.assert_allclose(together, alone, atol=1e-5)
        np.testing.assert_allclose(together, backwards, atol=1e-5)

    def test_is_deterministic_and_equal_for_equal_texts(self, encoder):
        first = encoder.encode(TITLES)
        np.testing.assert_array_equal(first, encoder.encode(TITLES))
        np.testing.assert_array_equal(first[0], first[-1])
        assert not np.allclose(first[0], first[1])

    def test_says_its_name(self, encoder):
        assert encoder.name
