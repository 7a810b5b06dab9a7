"""A store's contents as the two tables that `prepare` reads, so that training can use the newest events."""

from __future__ import annotations

import polars as pl

from genrec.serve.store import NOT_TAKEN, HistoryStore


def tables_of(store: HistoryStore) -> tuple[pl.DataFrame, pl.DataFrame, int]:
    """Return the log, the catalogue, and the number of events left out because their item has no title yet."""
    items = store.items()
    known = {item.id for item in items}
    events = [(one.user, one.item, one.time) for one in store.events() if one.kind not in NOT_TAKEN]
    kept = [event for event in events if event[1] in known]
    log = pl.DataFrame(kept, schema={"user": pl.String, "item": pl.String, "time": pl.Int64}, orient="row")
    if not log["time"].max():  # the first log had only an order, and no event was added since
        log = log.drop("time")
    names = sorted({name for item in items for name in item.attributes} - {"id", "title", "category"})
    catalogue = pl.DataFrame(
        {
            "id": [item.id for item in items],
            "title": [item.title for item in items],
            "category": pl.Series([list(item.categories) for item in items], dtype=pl.List(pl.String)),
            **{name: pl.Series([item.attributes.get(name) for item in items], dtype=pl.String) for name in names},
        }
    )
    return log, catalogue, len(events) - len(kept)
