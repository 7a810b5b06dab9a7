"""genrec: a generative LLM recommender.

    from genrec import Recommender
    rec = Recommender.from_pretrained("runs/demo")
    for r in rec.recommend(["Toy Story", "Aladdin"], k=5):
        print(r.rank, r.item.title, r.explanation)

This is the one public door. Names are loaded when first used, so importing genrec loads neither torch nor faiss.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genrec.data.catalog import Catalog, Item
    from genrec.data.prepared import PreparedData, prepare
    from genrec.data.splits import History
    from genrec.errors import ArtefactError, ConfigError, DataError, GenrecError, MissingExtra, ModelError
    from genrec.recommendation import Recommendation, Recommendations
    from genrec.recommender import Recommender
    from genrec.runs.bases import pretrain
    from genrec.runs.evaluate import evaluate
    from genrec.runs.fit import fit
    from genrec.runs.train import train
    from genrec.settings import Settings

__all__ = [
    "ArtefactError",
    "Catalog",
    "ConfigError",
    "DataError",
    "GenrecError",
    "History",
    "Item",
    "MissingExtra",
    "ModelError",
    "PreparedData",
    "Recommendation",
    "Recommendations",
    "Recommender",
    "Settings",
    "evaluate",
    "fit",
    "prepare",
    "pretrain",
    "train",
]

_HOMES = {
    "Catalog": "data.catalog",
    "History": "data.splits",
    "Item": "data.catalog",
    "PreparedData": "data.prepared",
    "Recommendation": "recommendation",
    "Recommendations": "recommendation",
    "Recommender": "recommender",
    "Settings": "settings",
    "evaluate": "runs.evaluate",
    "fit": "runs.fit",
    "prepare": "data.prepared",
    "pretrain": "runs.bases",
    "train": "runs.train",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("genrec")
    if name not in __all__:
        raise AttributeError(f"module 'genrec' has no attribute {name!r}")
    return getattr(importlib.import_module(f"genrec.{_HOMES.get(name, 'errors')}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
