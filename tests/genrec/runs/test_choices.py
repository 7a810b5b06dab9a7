"""What pretraining chooses from the data: a window as long as histories are, unless the user says otherwise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from genrec import History
from genrec.data.item_vectors import ItemVectors
from genrec.data.prepared import PreparedData
from genrec.runs import bases
from genrec.runs.choices import chosen
from tests.toyworld import make_data
from training.pretrain_recipe import PretrainRecipe


def of_length(data: PreparedData, length: int) -> PreparedData:
    """Return the data with histories of one length, counting the two items that are held out."""
    ids = [data.catalog.ids[place % len(data.catalog)] for place in range(length + 2)]
    kept = tuple(History(f"u{user}", tuple(ids)) for user in range(20))
    return PreparedData(data.catalog, kept, data.split_name, data.report)


@pytest.mark.parametrize(("length", "window"), [(5, 32), (24, 32), (25, 64), (56, 64), (57, 128), (500, 128)])
def test_the_window_is_as_long_as_histories_are(length: int, window: int, tmp_path: Path) -> None:
    data = of_length(make_data(tmp_path), length)
    found, reasons = chosen(PretrainRecipe(), data)
    assert found.max_tokens == window
    assert any(f"max_tokens={window}" in reason for reason in reasons)


def test_what_the_user_says_is_kept(tmp_path: Path) -> None:
    data = make_data(tmp_path)
    said = PretrainRecipe(max_tokens=99, exclude_seen=False)
    assert chosen(said, data) == (said, [])
    assert chosen(PretrainRecipe(base="starter"), data)[0].max_tokens == PretrainRecipe().max_tokens


def test_vectors_that_the_user_brought_enter_beside_the_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_data(tmp_path)
    size = len(data.catalog)
    pictures = np.random.default_rng(0).normal(size=(size, 5)).astype(np.float32)
    brought = ItemVectors({"look": pictures}, {"look": np.arange(size) > 2})
    given: list[tuple[object, ...]] = []

    class EnoughError(Exception):
        pass

    def note(*arguments: object) -> None:
        given.append(arguments)
        raise EnoughError

    monkeypatch.setattr(bases, "make_base", note)
    for encoder, width in (("hashing", 512), ("none", 0)):
        with pytest.raises(EnoughError):
            bases.pretrain_with(replace(data, vectors=brought), PretrainRecipe(), tmp_path / encoder, encoder=encoder)
        vectors = next(one for one in given[-1] if isinstance(one, np.ndarray))
        assert vectors.shape == (size, width + 5)
        assert np.array_equal(vectors[:, width:], brought.together())
