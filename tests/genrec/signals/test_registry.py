"""The signals of a run: their names and order, saving and loading, and a catalogue that has grown since."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from genrec.data.catalog import Item
from genrec.data.splits import History
from genrec.errors import ArtefactError
from genrec.signals.registry import SEQUENCE_DECAY, SIGNALS, fit_signals, load_signals, save_signals
from retrieval.encoders import load_encoder
from tests.toyworld import make_catalog, make_histories

CATALOG = make_catalog()
HISTORIES = make_histories(40)
VECTORS = load_encoder("hashing").encode([item.title for item in CATALOG])
ASKED = [History("", CATALOG.ids[:3]), History("", CATALOG.ids[7:9]), History("", ())]


@pytest.fixture(scope="module")
def signals():
    return fit_signals(CATALOG, HISTORIES, VECTORS)


def test_every_signal_has_its_name_and_place(signals):
    assert ("lm", *signals, "again") == SIGNALS  # which is fitted only where seen items may come back


def test_sequence_is_co_occurrence_that_forgets_sooner(signals):
    sequence, collaborative = signals["sequence"], signals["collaborative"]
    assert sequence.pairs is collaborative.pairs  # counted once, not twice
    assert (sequence.decay, collaborative.decay) == (SEQUENCE_DECAY, 0.8)


def test_saved_and_loaded_they_say_the_same(signals, tmp_path):
    save_signals(tmp_path / "signals.safetensors", signals)
    loaded = load_signals(tmp_path / "signals.safetensors", CATALOG, VECTORS)
    assert list(loaded) == list(signals)
    for name, signal in signals.items():
        assert np.array_equal(loaded[name].score(ASKED), signal.score(ASKED)), name


def test_a_grown_catalogue_keeps_what_was_said_of_known_items(signals, tmp_path):
    save_signals(tmp_path / "signals.safetensors", signals)
    grown = CATALOG.with_items([Item("new", "Owls of Delhi")])
    vectors = np.vstack([VECTORS, load_encoder("hashing").encode(["Owls of Delhi"])])
    loaded = load_signals(tmp_path / "signals.safetensors", grown, vectors)
    for name, signal in signals.items():
        scores = loaded[name].score(ASKED)
        assert scores.shape == (3, 31)
        assert scores[:, :30] == pytest.approx(signal.score(ASKED), abs=1e-6), name
        assert name == "similarity" or not scores[:, 30].any()


def test_damage_and_a_catalogue_that_lost_items_are_told(signals, tmp_path):
    path = tmp_path / "signals.safetensors"
    with pytest.raises(ArtefactError, match="cannot be read"):
        load_signals(path, CATALOG, VECTORS)
    save_signals(path, signals)
    arrays = load_file(path)
    del arrays["latent/factors"]
    save_file(arrays, path)
    with pytest.raises(ArtefactError, match=r"cannot be read .*factors.*; make the run again"):
        load_signals(path, CATALOG, VECTORS)
    save_signals(path, signals)
    fewer = type(CATALOG)(CATALOG.items[:10])
    with pytest.raises(ArtefactError, match="knows 30 items, the catalogue has 10"):
        load_signals(path, fewer, VECTORS[:10])
