"""The list of all baselines: how each is fitted, its parameters, and the values that a search tries.

Easy to get wrong: the strongest simple baseline, `co-occurrence+content`. Its two parts are added without rescaling.
The size of a co-occurrence is the amount of evidence; normalising it for each user, as is usual before adding scores,
costs a tenth of NDCG@10.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from genrec.baselines.als import ALS
from genrec.data.catalog import Catalog
from genrec.data.splits import History
from genrec.errors import ConfigError, DataError
from genrec.signals.simple import Content, CoOccurrence, ItemKNN, Popularity, RecentPopularity, Signal

Settings = Mapping[str, float]
"""A baseline's parameters by name."""


@dataclass(frozen=True, slots=True)
class Material:
    """The data from which a baseline may learn.

    Attributes:
        catalog: the candidates.
        train: training histories.
        embeddings: item vectors of length 1, of shape (items, dimensions), for the baselines that read titles.
    """

    catalog: Catalog
    train: Sequence[History]
    embeddings: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Random:
    """Random scores for each history, which depend only on the seed and the history."""

    name: ClassVar[str] = "random"
    items: int
    seed: int

    def score(self, histories: Sequence[History]) -> NDArray[np.float32]:
        """Return uniform numbers in [0, 1)."""
        scores = np.empty((len(histories), self.items), dtype=np.float32)
        for row, history in enumerate(histories):
            text = "\0".join((history.user, *history.items))
            scores[row] = np.random.default_rng((self.seed, zlib.crc32(text.encode()))).random(self.items)
        return scores


@dataclass(frozen=True, slots=True, eq=False)
class CoOccurrenceContent:
    """Co-occurrence counts plus `weight` times the cosine with the history; neither is rescaled.

    Attributes:
        co_occurrence: scores items taken near the history's items.
        content: scores items with similar titles.
        weight: the value of a cosine of 1 in the unit of co-occurrence: one item, taken by one training user only,
            right after the history's last item.
    """

    name: ClassVar[str] = "co-occurrence+content"
    co_occurrence: CoOccurrence
    content: Content
    weight: float

    def score(self, histories: Sequence[History]) -> NDArray[np.float32]:
        """Return the weighted sum."""
        return self.co_occurrence.score(histories) + np.float32(self.weight) * self.content.score(histories)


@dataclass(frozen=True, slots=True)
class Baseline:
    """A baseline: its fitting function and its settings.

    Attributes:
        fit: makes the signal from the material, the settings and a seed.
        defaults: its settings without tuning.
        choices: for each setting that is tuned, the values tried.
    """

    fit: Callable[[Material, Settings, int], Signal]
    defaults: Settings
    choices: Mapping[str, Sequence[float]]


def _fit_co_occurrence(material: Material, settings: Settings, seed: int) -> CoOccurrence:
    return CoOccurrence.fit(
        material.catalog,
        material.train,
        int(settings["window"]),
        settings["backward"],
        settings["power"],
        settings["decay"],
    )


def _fit_co_occurrence_content(material: Material, settings: Settings, seed: int) -> CoOccurrenceContent:
    content = Content(material.catalog, _embeddings(material), settings["content_decay"])
    return CoOccurrenceContent(_fit_co_occurrence(material, settings, seed), content, settings["weight"])


def _fit_item_knn(material: Material, settings: Settings, seed: int) -> ItemKNN:
    neighbours, shrink, decay = int(settings["neighbours"]), settings["shrink"], settings["decay"]
    return ItemKNN.fit(material.catalog, material.train, neighbours, shrink, decay)


def _fit_als(material: Material, settings: Settings, seed: int) -> ALS:
    return ALS.fit(
        material.catalog,
        material.train,
        dimension=int(settings["dimension"]),
        regularization=settings["regularization"],
        alpha=settings["alpha"],
        decay=settings["decay"],
        seed=seed,
    )


def _fit_recent(material: Material, settings: Settings, seed: int) -> RecentPopularity:
    half_lives = settings["half_life_days"], settings["half_life_events"]
    return RecentPopularity.fit(material.catalog, material.train, *half_lives)


def _fit_sasrec(material: Material, settings: Settings, seed: int) -> Signal:
    *_, last = sequence_epochs("sasrec", material, settings, seed)
    return last


def _fit_gru4rec(material: Material, settings: Settings, seed: int) -> Signal:
    *_, last = sequence_epochs("gru4rec", material, settings, seed)
    return last


def sequence_epochs(name: str, material: Material, settings: Settings, seed: int) -> Iterator[Signal]:
    """Train a sequence model and yield it after each epoch."""
    # Imported here, since it imports torch, which takes a second and is not needed by the other baselines.
    from genrec.baselines.sequence import GRU4Rec, SASRec, SequenceSettings

    model = SASRec if name == "sasrec" else GRU4Rec
    return model.fit_epochs(material.catalog, material.train, SequenceSettings.from_numbers(settings), seed)


_CO_OCCURRENCE = {"window": 5, "backward": 0.6, "power": 0.5, "decay": 0.8}
_CO_OCCURRENCE_CHOICES = {
    "window": (3, 5, 10, 20),
    "backward": (0.3, 0.6, 1.0),
    "power": (0.3, 0.5, 0.7),
    "decay": (0.6, 0.7, 0.8, 0.9),
}
_SEQUENCE_CHOICES = {
    "dimension": (64, 128),
    "layers": (1, 2),
    "dropout": (0.3, 0.5),
    "learning_rate": (0.001, 0.002),
    "batch_size": (128, 256),
}

BASELINES: Mapping[str, Baseline] = MappingProxyType(
    {
        "random": Baseline(lambda material, settings, seed: Random(len(material.catalog), seed), {}, {}),
        "popularity": Baseline(lambda material, *_: Popularity.fit(material.catalog, material.train), {}, {}),
        "recent-popularity": Baseline(
            _fit_recent,
            {"half_life_days": 30.0, "half_life_events": 3.0},
            {"half_life_days": (1.0, 3.0, 7.0, 14.0, 30.0, 90.0), "half_life_events": (0.5, 1.0, 3.0, 10.0)},
        ),
        "content": Baseline(lambda material, *_: Content(material.catalog, _embeddings(material), 0.0), {}, {}),
        "co-occurrence": Baseline(_fit_co_occurrence, _CO_OCCURRENCE, _CO_OCCURRENCE_CHOICES),
        "co-occurrence+content": Baseline(
            _fit_co_occurrence_content,
            {**_CO_OCCURRENCE, "content_decay": 0.5, "weight": 0.8},
            {**_CO_OCCURRENCE_CHOICES, "content_decay": (0.0, 0.3, 0.5, 0.8), "weight": (0.4, 0.8, 1.2, 1.6, 2.4)},
        ),
        "item-knn": Baseline(
            _fit_item_knn,
            {"neighbours": 100, "shrink": 0.0, "decay": 0.8},
            {
                "neighbours": (20, 50, 100, 200, 500, 1000),
                "shrink": (0.0, 1.0, 3.0, 10.0, 30.0),
                "decay": (0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 1.0),
            },
        ),
        "als": Baseline(
            _fit_als,
            {"dimension": 64, "regularization": 1.0, "alpha": 10.0, "decay": 0.8},
            {
                "dimension": (32, 64, 128, 256),
                "regularization": (0.1, 1.0, 10.0, 30.0, 100.0),
                "alpha": (1.0, 3.0, 10.0, 30.0, 100.0),
                "decay": (0.5, 0.7, 0.8, 0.9, 1.0),
            },
        ),
        "sasrec": Baseline(_fit_sasrec, {"dimension": 64, "layers": 2, "epochs": 60}, _SEQUENCE_CHOICES),
        "gru4rec": Baseline(_fit_gru4rec, {"dimension": 64, "layers": 1, "epochs": 60}, _SEQUENCE_CHOICES),
    }
)
"""Every baseline by its name, in the order of tables."""

SEQUENCE_MODELS = ("sasrec", "gru4rec")
READS_TITLES = ("content", "co-occurrence+content")


def fit_baseline(name: str, material: Material, settings: Settings | None = None, seed: int = 0) -> Signal:
    """Fit one baseline.

    Args:
        name: one of `BASELINES`.
        material: the data from which it may learn.
        settings: parameters that differ from the defaults.
        seed: the seed of its random parts.

    Raises:
        ConfigError: there is no such baseline, or it has no such parameter.
        DataError: a parameter is out of range, or embeddings are needed and were not given.
        MissingExtra: it needs a library that is not installed.
    """
    return find_baseline(name).fit(material, _complete(name, settings or {}), seed)


def find_baseline(name: str) -> Baseline:
    """Return a baseline by its name.

    Raises:
        ConfigError: there is none of this name.
    """
    if name not in BASELINES:
        raise ConfigError([f"there is no baseline {name!r}; choose from {', '.join(BASELINES)}"])
    return BASELINES[name]


def _complete(name: str, settings: Settings) -> Settings:
    """Return the settings with defaults filled in."""
    baseline = find_baseline(name)
    known = {*baseline.defaults, *baseline.choices}
    if unknown := sorted(set(settings) - known):
        raise ConfigError(
            [f"{name} has no setting {key!r}; it has {', '.join(sorted(known)) or 'none'}" for key in unknown]
        )
    return {**baseline.defaults, **settings}


def _embeddings(material: Material) -> NDArray[np.float32]:
    if material.embeddings is None:
        raise DataError(f"{' and '.join(READS_TITLES)} need item embeddings; give them, or leave these out")
    return material.embeddings
