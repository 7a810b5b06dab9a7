"""People are counted as the log counts them, or not at all."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from genrec import History
from genrec.signals.people import people_of
from genrec.signals.simple import ItemKNN, Popularity
from tests.toyworld import make_catalog, make_histories

SHRINK = 3.0


def test_counts_are_those_of_the_log_and_repeats_make_them_unknown() -> None:
    catalog, histories = make_catalog(), make_histories(60)
    neighbours = ItemKNN.fit(catalog, histories, neighbours=500, shrink=SHRINK)
    people = people_of(neighbours, Popularity.fit(catalog, histories), SHRINK, len(catalog))
    assert people is not None
    takers = [{history.user for history in histories if item in history.items} for item in catalog.ids]
    assert people.takers.tolist() == [len(users) for users in takers]
    for one, other in combinations(range(len(catalog)), 2):
        assert people.of_both(one, other) == people.of_both(other, one) == len(takers[one] & takers[other])
    assert people_of(neighbours, Popularity.fit(catalog, histories), 0.0, len(catalog)) is None
    repeated = [*histories, History("again", (*histories[0].items, histories[0].items[0]))]
    counted = ItemKNN.fit(catalog, repeated, neighbours=500, shrink=SHRINK)
    assert people_of(counted, Popularity.fit(catalog, repeated), SHRINK, len(catalog)) is None


def test_of_items_that_were_added_nothing_is_counted() -> None:
    catalog, histories = make_catalog(), make_histories(60)
    neighbours = ItemKNN.fit(catalog, histories, neighbours=500, shrink=SHRINK)
    people = people_of(neighbours, Popularity.fit(catalog, histories), SHRINK, len(catalog) - 6)
    assert people is not None
    assert not people.takers[-6:].any()
    assert not np.asarray(people.both[:, -6:].sum())
