"""What pretraining chooses from the data: a window as long as histories are, unless the user says otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest

from genrec import History
from genrec.data.prepared import PreparedData
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
