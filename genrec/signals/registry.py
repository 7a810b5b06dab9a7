"""The signals that a run holds: fitted on training histories, saved as arrays beside the adapter, loaded by name.

To add your own signal, set `recommender.signals[name] = signal` and call `tune_fusion` again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genrec.data.catalog import Catalog
from genrec.data.item_vectors import ItemVectors
from genrec.data.splits import History
from genrec.errors import ArtefactError, ConfigError
from genrec.signals.again import Again
from genrec.signals.arrays import FloatArray
from genrec.signals.latent import Latent
from genrec.signals.people import People, people_of
from genrec.signals.simple import Content, CoOccurrence, ItemKNN, Popularity, Signal

SEQUENCE_DECAY = 0.5
"""Decay of `sequence`, which uses the last few items; `collaborative` uses about a dozen."""

SIMILARITY_DECAY = 0.3
"""Decay of `similarity`: old items of a history say little about the next one."""

NEIGHBOURS_SHRINK = 3.0
"""Added to the divisor of `neighbours`; few people who took both of two items prove little."""

OWN = "vectors-"
"""What the names of signals of vectors that the user brought begin with."""

_SAVED: dict[str, Any] = {
    "newest": CoOccurrence,
    "collaborative": CoOccurrence,
    "neighbours": ItemKNN,
    "latent": Latent,
    "popularity": Popularity,
    "again": Again,
}
"""The signals that are counted and saved; the others are derived from them and from the item index."""

_OPTIONAL = frozenset({"again"})
"""The signals that only some runs have."""


def fit_signals(
    catalog: Catalog,
    histories: Sequence[History],
    vectors: FloatArray,
    keep_seen: bool = False,
    own: Mapping[str, Signal] | None = None,
) -> dict[str, Signal]:
    """Fit every signal of a run.

    Args:
        catalog: the items.
        histories: training histories.
        vectors: item vectors of length 1, of shape (items, dimensions).
        keep_seen: whether seen items may be recommended again.
        own: the signals of vectors that the user brought; see `vector_signals`.
    """
    return complete(
        {
            **(own or {}),
            "newest": CoOccurrence.fit(catalog, histories, window=3, backward=0.3, power=0.3, decay=0.4),
            "collaborative": CoOccurrence.fit(catalog, histories, window=20),
            "neighbours": ItemKNN.fit(catalog, histories, neighbours=500, shrink=NEIGHBOURS_SHRINK, decay=0.8),
            "latent": Latent.fit(catalog, histories),
            "popularity": Popularity.fit(catalog, histories),
            **({"again": Again.fit(catalog, histories)} if keep_seen else {}),
        },
        catalog,
        vectors,
    )


def vector_signals(catalog: Catalog, vectors: ItemVectors | None) -> dict[str, Signal]:
    """Return a signal for each kind of vectors that the user brought: the similarity to the history in that kind.

    Args:
        catalog: the items.
        vectors: theirs; None if there are none.
    """
    if vectors is None:
        return {}
    return {f"{OWN}{name}": Content(catalog, vectors.centred(name), SIMILARITY_DECAY) for name in vectors.names}


def own_signals(signals: Mapping[str, Signal]) -> dict[str, Signal]:
    """Return those of a run's signals that `vector_signals` made; they hold nothing of any user."""
    return {name: signal for name, signal in signals.items() if name.startswith(OWN) and isinstance(signal, Content)}


def with_again(signals: dict[str, Signal], catalog: Catalog, histories: Sequence[History]) -> dict[str, Signal]:
    """Return signals with that of what is taken again, counted on the training histories where it is not there yet.

    A run whose data hardly ever repeat has none; lists that keep seen items need it all the same.
    """
    if "again" in signals:
        return signals
    return {**signals, Again.name: Again.fit(catalog, histories)}


def complete(counted: dict[str, Any], catalog: Catalog, vectors: FloatArray) -> dict[str, Signal]:
    """Return all signals in their order, given the counted ones."""
    signals = {
        "similarity": Content(catalog, vectors, SIMILARITY_DECAY),
        "sequence": replace(counted["collaborative"], decay=SEQUENCE_DECAY),
        **counted,
    }
    return {name: signals[name] for name in (*SIGNALS, *own_signals(signals)) if name in signals}


def check_savable(signals: dict[str, Signal], vectors: FloatArray) -> None:
    """Check that `load_signals` would restore exactly these signals in this order.

    Args:
        signals: a recommender's signals.
        vectors: the item index's vectors, of shape (items, dimensions).

    Raises:
        ConfigError: a signal is the user's own, or a signal of the run is missing.
    """
    kinds: dict[str, Any] = {"similarity": Content, "sequence": CoOccurrence, **_SAVED}
    kinds |= dict.fromkeys(own_signals(signals), Content)
    needed = [name for name in SIGNALS if name in kinds and (name in signals or name not in _OPTIONAL)]
    needed += own_signals(signals)
    own = [name for name, signal in signals.items() if type(signal) is not kinds.get(name)]
    if not own and list(signals) == needed:
        similarity, sequence, counted = signals["similarity"], signals["sequence"], signals["collaborative"]
        assert isinstance(similarity, Content)  # noqa: S101 - for the type checker
        assert isinstance(sequence, CoOccurrence)  # noqa: S101 - likewise
        assert isinstance(counted, CoOccurrence)  # noqa: S101 - likewise
        if similarity.decay != SIMILARITY_DECAY or not np.array_equal(similarity.embeddings, vectors):
            own = ["similarity"]
        elif sequence.decay != SEQUENCE_DECAY or abs(sequence.pairs - counted.pairs).max() != 0:
            own = ["sequence"]
    if own:
        raise ConfigError(
            [
                f"the signal {own[0]!r} is your own, and a run folder holds no code: take it out of `signals`, fit the "
                "weights again with genrec.runs.tuning.tune_fusion, and save then"
            ]
        )
    if list(signals) != needed:
        raise ConfigError(
            [f"a run folder holds the signals {', '.join(needed)}, in this order; there are {', '.join(signals)}"]
        )


def save_signals(path: Path, signals: dict[str, Signal]) -> None:
    """Write the counted signals' arrays into one safetensors file."""
    from safetensors.numpy import save

    arrays = {
        f"{name}/{key}": np.ascontiguousarray(array)
        for name in (*_SAVED, *own_signals(signals))
        if name in signals
        for key, array in signals[name].to_arrays().items()  # type: ignore[attr-defined]
    }
    # `save_file` creates a file that only its owner can read, regardless of the umask.
    path.write_bytes(save(arrays))


def load_signals(path: Path, catalog: Catalog, vectors: FloatArray) -> dict[str, Signal]:
    """Read what `save_signals` wrote, for the same catalogue or one with items appended.

    Raises:
        ArtefactError: the file is missing or damaged, or knows more items than the catalogue.
    """
    from safetensors.numpy import load_file

    try:
        arrays: dict[str, NDArray[Any]] = dict(load_file(path))
        counted = {
            name: kind.from_arrays(catalog, part)
            for name, kind in _SAVED.items()
            if (part := _part(arrays, name)) or name not in _OPTIONAL
        }
        for name in dict.fromkeys(key.partition("/")[0] for key in arrays if key.startswith(OWN)):
            counted[name] = Content.from_arrays(catalog, _part(arrays, name))
    except ArtefactError:
        raise
    except Exception as error:  # safetensors raises several types, some of its own
        raise ArtefactError(f"{path} cannot be read ({error}); make the run again") from error
    return complete(counted, catalog, vectors)


def people_of_signals(signals: Mapping[str, Signal], known: int) -> People | None:
    """Return how many people took what; None where the signals do not say. See `genrec.signals.people`."""
    neighbours, popularity = signals.get("neighbours"), signals.get("popularity")
    if isinstance(neighbours, ItemKNN) and isinstance(popularity, Popularity):
        return people_of(neighbours, popularity, NEIGHBOURS_SHRINK, known)
    return None


def _part(arrays: dict[str, NDArray[Any]], name: str) -> dict[str, NDArray[Any]]:
    return {key.removeprefix(f"{name}/"): array for key, array in arrays.items() if key.startswith(f"{name}/")}


SIGNALS = ("lm", "similarity", "newest", "sequence", "collaborative", "neighbours", "latent", "popularity", "again")
"""The signals beside each recommendation, by name: the language model's log-likelihood, the cosine of titles and
history, co-occurrence with the newest items close by, with the last few, and with the last dozen, item-kNN, latent
factors, log(1 + takers), and, in runs where seen items may come back, the chance of being taken again."""
