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
    from genrec.catalog import Catalog, Item
    from genrec.errors import ArtefactError, ConfigError, DataError, GenrecError, MissingExtra, ModelError
    from genrec.interactions import PreparedData
    from genrec.recommendation import Recommendation
    from genrec.recommender import Recommender, Settings
    from genrec.splits import History

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
    "Recommender",
    "Settings",
]

_HOMES = {
    "Catalog": "catalog",
    "History": "splits",
    "Item": "catalog",
    "PreparedData": "interactions",
    "Recommendation": "recommendation",
    "Recommender": "recommender",
    "Settings": "recommender",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'genrec' has no attribute {name!r}")
    return getattr(importlib.import_module(f"genrec.{_HOMES.get(name, 'errors')}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
