"""A batch of histories: rows looked up once, and to a signal of one's own a sequence of histories like any other."""

from __future__ import annotations

import numpy as np
import pytest

from genrec import DataError, History, Item
from genrec.data.catalog import Catalog
from genrec.data.history_batch import HistoryBatch
from genrec.signals.again import Again
from genrec.signals.registry import fit_signals
from tests.toyworld import make_catalog, make_histories

CATALOG = make_catalog()
IDS = CATALOG.ids
HISTORIES = (History("a", IDS[4:7]), History("b", ()), History("c", (IDS[2], IDS[0], IDS[2])))


def test_rows_stand_where_the_histories_do() -> None:
    batch = HistoryBatch.of(CATALOG, HISTORIES)
    assert [batch.rows_of(place).tolist() for place in range(3)] == [[4, 5, 6], [], [2, 0, 2]]
    assert batch.lengths.tolist() == [3, 0, 3]
    assert (len(batch), list(batch), batch[2]) == (3, list(HISTORIES), HISTORIES[2])
    turned = batch.take([2, 0])
    assert turned.histories == (HISTORIES[2], HISTORIES[0])
    assert [turned.rows_of(place).tolist() for place in range(2)] == [[2, 0, 2], [4, 5, 6]]
    assert list(batch[1:]) == list(HISTORIES[1:])
    assert not len(batch.take([]).rows)


def test_what_is_looked_up_is_not_looked_up_again() -> None:
    batch = HistoryBatch.of(CATALOG, HISTORIES)
    assert HistoryBatch.of(CATALOG, batch) is batch
    larger = CATALOG.with_items([Item("new", "Something New")])
    assert HistoryBatch.of(larger, batch).catalog is larger  # in another catalogue rows may be others
    turned = Catalog(reversed(CATALOG.items))
    assert HistoryBatch.of(turned, batch).rows_of(0).tolist() == [25, 24, 23]
    with pytest.raises(DataError, match="'nope' is not among"):
        HistoryBatch.of(CATALOG, [History("", ("nope",))])


def test_signals_score_a_batch_as_they_score_its_histories() -> None:
    vectors = np.random.default_rng(0).standard_normal((len(CATALOG), 4)).astype(np.float32)
    signals = fit_signals(CATALOG, make_histories(30), vectors, keep_seen=True)
    assert any(isinstance(signal, Again) for signal in signals.values())
    batch = HistoryBatch.of(CATALOG, HISTORIES)
    before = batch.rows.copy()
    for name, signal in signals.items():
        assert np.array_equal(signal.score(batch), signal.score(HISTORIES)), name
    assert np.array_equal(batch.rows, before)  # repeats are summed in a copy
