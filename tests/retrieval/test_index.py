from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.errors import RetrievalError
from retrieval.index import ItemIndex
from retrieval.structures import FLAT_LIMIT, HNSW_LIMIT, KINDS, choose_kind, list_count

DIMENSION = 16


def clustered(count, seed=0):
    """Return item ids and vectors in ten clusters."""
    generator = np.random.default_rng(seed)
    centres = generator.standard_normal((10, DIMENSION))
    vectors = centres[generator.integers(10, size=count)] + 0.5 * generator.standard_normal((count, DIMENSION))
    return [f"item-{row}" for row in range(count)], vectors.astype(np.float32)


def by_hand(ids, vectors, query, k, exclude=()):
    """Return the k nearest by sorting everything, equal scores in catalogue order."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    scores = unit @ (query / np.linalg.norm(query))
    order = sorted(range(len(ids)), key=lambda row: (-round(float(scores[row]), 5), row))
    return [ids[row] for row in order if ids[row] not in exclude][:k]


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


def test_there_are_three_kinds():
    assert KINDS == ("flat", "hnsw", "ivf-pq")


def test_search_by_hand(kind):
    # Cosines with (1, 0): 1, 0.6, 0, -1; lengths do not count.
    vectors = np.array([[0, 5], [2, 0], [-1, 0], [3, 4]], dtype=np.float32)
    index = ItemIndex.build(["up", "right", "left", "between"], vectors, kind=kind)
    ids, scores = index.search(np.array([[7.0, 0.0]]), k=3)
    assert ids == [["right", "between", "up"]]
    np.testing.assert_allclose(scores[0], [1, 0.6, 0], atol=1e-3)


def test_finds_the_nearest_of_many(kind):
    ids, vectors = clustered(3000)
    index = ItemIndex.build(ids, vectors, kind=kind)
    queries = vectors[::30] + 0.1
    found, _ = index.search(queries, k=10)
    shared = [len(set(row) & set(by_hand(ids, vectors, query, 10))) for row, query in zip(found, queries, strict=True)]
    # Product quantisation of 16 wide-spread numbers is as hard as it gets; at scale it finds 0.98 and more.
    assert np.mean(shared) / 10 >= (0.95 if kind == "ivf-pq" else 0.99)


@pytest.mark.parametrize("count", [1, 2, 5, 40, 700])
def test_small_catalogues_work(kind, count):
    ids, vectors = clustered(count)
    index = ItemIndex.build(ids, vectors, kind=kind)
    found, scores = index.search(vectors, k=10)
    assert [row[0] for row in found] == ids
    assert all(len(set(row)) == min(10, count) for row in found)
    assert all((np.diff(row) <= 0).all() for row in scores)


def test_batch_equals_single(kind):
    ids, vectors = clustered(500)
    index = ItemIndex.build(ids, vectors, kind=kind)
    exclude = [set(ids[row : row + row % 7]) for row in range(40)]
    together = index.search(vectors[:40], 10, exclude)
    for row in range(40):
        alone = index.search(vectors[row : row + 1], 10, [exclude[row]])
        assert alone[0][0] == together[0][row]
        np.testing.assert_array_equal(alone[1][0], together[1][row])


def test_equal_scores_come_in_catalogue_order(kind):
    ids, vectors = clustered(400)
    vectors[50:350:10] = vectors[7]  # 30 items with the vector of item 7
    same = [ids[7], *ids[50:350:10]]
    index = ItemIndex.build(ids, vectors, kind=kind)
    for k in (1, 5, 31):
        assert index.search(vectors[[7]], k)[0] == [same[:k]]
    # An exact result cannot depend on how many were asked for or on the batch's size.
    assert index.search(vectors, 5)[0][7] == same[:5]


def test_more_equal_items_than_are_fetched_come_in_catalogue_order_too():
    # More than the widest fetch holds, so every vector is read; of ten thousand, so that none is found by chance.
    ids, vectors = clustered(10_000)
    same = np.arange(9_999, 0, -7)[::-1]
    vectors[same] = vectors[1234]
    index = ItemIndex.build(ids, vectors)
    index.remove([ids[same[0]]])
    found, scores = index.search(vectors[[1234]], 5, [[ids[same[1]], ids[same[3]]]])
    expected = [row for row in sorted({1234, *same.tolist()}) if row not in same[[0, 1, 3]]][:5]
    assert found == [[ids[row] for row in expected]]
    np.testing.assert_allclose(scores[0], 1, atol=1e-6)


def test_equal_vectors_have_equal_scores_wherever_they_stand():
    generator = np.random.default_rng(0)
    vectors = np.tile(generator.standard_normal((1, 383)), (37, 1)) + np.zeros((37, 383))
    index = ItemIndex.build([str(row) for row in range(37)], vectors)
    _, scores = index.search(generator.standard_normal((50, 383)), 37)
    assert all(len(set(row.tolist())) == 1 for row in scores)


def test_building_says_nothing_outside_the_log(kind, capfd):
    ids, vectors = clustered(100)
    ItemIndex.build(ids, vectors, kind=kind)
    assert capfd.readouterr() == ("", "")


def test_excluded_items_do_not_come_back_and_k_do(kind):
    ids, vectors = clustered(300)
    index = ItemIndex.build(ids, vectors, kind=kind)
    nearest = index.search(vectors[[0]], 300)[0][0]
    assert sorted(nearest) == sorted(ids)
    for count in (1, 50, 295):
        found = index.search(vectors[[0]], 5, [nearest[:count]])[0][0]
        assert len(set(found) - set(nearest[:count])) == 5
        if kind != "ivf-pq":  # which is not exact among three hundred items in one list
            assert found == nearest[count : count + 5]


def test_fewer_come_back_only_where_fewer_are_left(kind):
    ids, vectors = clustered(20)
    index = ItemIndex.build(ids, vectors, kind=kind)
    found, scores = index.search(vectors[:3], 10, [ids[:15], ids, ["unknown"]])
    assert [len(row) for row in found] == [5, 0, 10]
    assert [len(row) for row in scores] == [5, 0, 10]


def test_a_query_of_zeros_gets_items_in_catalogue_order(kind):
    ids, vectors = clustered(200)
    index = ItemIndex.build(ids, vectors, kind=kind)
    found, scores = index.search(np.zeros((1, DIMENSION)), 3, [ids[:1]])
    assert found == [ids[1:4]]
    assert not scores[0].any()


def test_items_are_added_without_training(kind):
    ids, vectors = clustered(900)
    index = ItemIndex.build(ids[:700], vectors[:700], kind=kind)
    index.add(ids[700:], vectors[700:])
    assert len(index) == 900
    assert index.ids == tuple(ids)
    assert [row[0] for row in index.search(vectors[700:], 1)[0]] == ids[700:]


def test_a_copy_is_changed_apart(kind):
    ids, vectors = clustered(400)
    index = ItemIndex.build(ids, vectors, kind=kind)
    index.remove(["item-3"])
    before = index.search(vectors[:5], k=10)
    copy = index.copy()
    assert copy.search(vectors[:5], k=10)[0] == before[0]
    copy.add(["new"], vectors[:1])
    copy.remove(["item-7"])
    copy.update(["item-9"], vectors[:1])
    assert index.search(vectors[:5], k=10)[0] == before[0]
    assert ("new" in copy, "new" in index, "item-7" in index, len(index), len(copy)) == (True, False, True, 399, 399)
    assert copy.search(vectors[:1], k=3)[0] == [["item-0", "item-9", "new"]]


def test_removed_items_are_gone_at_once(kind):
    ids, vectors = clustered(500)
    index = ItemIndex.build(ids, vectors, kind=kind)
    nearest = index.search(vectors[[0]], 30)[0][0]
    index.remove(nearest[:20])
    assert index.search(vectors[[0]], 10)[0][0] == nearest[20:]
    assert len(index) == 480
    assert nearest[0] not in index
    assert nearest[20] in index
    with pytest.raises(RetrievalError, match="is not among the 480 items of the index"):
        index.remove([nearest[0]])


def test_most_items_can_be_removed_and_the_rest_is_still_found(kind):
    ids, vectors = clustered(500)
    index = ItemIndex.build(ids, vectors, kind=kind)
    for start in range(0, 490, 70):
        index.remove(ids[start : start + 70])
    assert index.ids == tuple(ids[490:])
    assert [row[0] for row in index.search(vectors[490:], 3)[0]] == ids[490:]
    # Tombstones are at most as many as items.
    assert len(index._structure) <= 2 * len(index)
    index.remove(ids[490:])
    assert index.search(vectors[:2], 3)[0] == [[], []]
    index.add(["new"], vectors[:1])
    assert index.search(vectors[:1], 3)[0] == [["new"]]


def test_updated_items_are_found_by_their_new_vector_and_keep_their_place(kind):
    ids, vectors = clustered(300)
    index = ItemIndex.build(ids, vectors, kind=kind)
    far = np.zeros((2, DIMENSION), dtype=np.float32)
    far[:, 0] = 100
    index.update([ids[9], ids[4]], far)
    assert index.search(far[:1], 2)[0] == [[ids[4], ids[9]]]  # equal scores: catalogue order
    assert index.search(vectors[[4]], 1)[0] != [[ids[4]]]
    assert index.ids == tuple(ids)
    assert len(index) == 300


def test_gives_the_vectors_back(kind):
    ids, vectors = clustered(300)
    index = ItemIndex.build(ids, vectors, kind=kind)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    got = index.vectors([ids[5], ids[2], ids[5]])
    np.testing.assert_allclose(got, unit[[5, 2, 5]], atol=1e-6 if kind != "ivf-pq" else 5e-4)
    np.testing.assert_allclose(np.linalg.norm(got, axis=1), 1, atol=1e-6)
    assert index.vectors([]).shape == (0, DIMENSION)
    with pytest.raises(RetrievalError, match="'nowhere' is not among the 300 items"):
        index.vectors(["nowhere"])


def test_saved_and_loaded_it_answers_the_same(kind, tmp_path):
    ids, vectors = clustered(700)
    ids[3] = "id with spaces, ünïcode and 🎬"
    index = ItemIndex.build(ids, vectors, kind=kind)
    index.remove(ids[10:30])
    index.update(ids[40:45], vectors[10:15])
    index.save(tmp_path / "made" / "here")
    again = ItemIndex.load(tmp_path / "made" / "here")
    assert sorted(path.name for path in (tmp_path / "made" / "here").iterdir()) == ["index.faiss", "index.json"]
    assert (again.kind, again.dimension, again.ids) == (index.kind, index.dimension, index.ids)
    assert again.announcement == index.announcement
    for part, other in zip(index.search(vectors, 10), again.search(vectors, 10), strict=True):
        assert all(np.array_equal(row, same) for row, same in zip(part, other, strict=True))
    again.add(["new"], vectors[:1] + 50)
    assert again.search(vectors[:1] + 50, 1)[0] == [["new"]]
    again.save(tmp_path / "made" / "here")  # over the old one
    assert "new" in ItemIndex.load(tmp_path / "made" / "here")


def test_an_empty_catalogue_can_be_filled_later():
    index = ItemIndex.build([], np.zeros((0, 4)))
    assert index.search(np.ones((2, 4)), 3)[0] == [[], []]
    index.add(["a"], np.ones((1, 4)))
    assert index.search(np.ones((1, 4)), 3)[0] == [["a"]]


def test_kind_is_chosen_by_size():
    sizes = [0, 1, FLAT_LIMIT, FLAT_LIMIT + 1, HNSW_LIMIT, HNSW_LIMIT + 1, 10**7]
    assert [choose_kind(size) for size in sizes] == ["flat"] * 3 + ["hnsw"] * 2 + ["ivf-pq"] * 2
    ids, vectors = clustered(50)
    assert ItemIndex.build(ids, vectors).kind == "flat"
    assert ItemIndex.build(ids, vectors, capacity=FLAT_LIMIT + 1).kind == "hnsw"
    assert ItemIndex.build(ids, vectors, capacity=HNSW_LIMIT + 1).kind == "ivf-pq"


def test_list_count_by_hand():
    # 4 * sqrt(10^6) = 4000, nearest power of two 4096; 4 * sqrt(100) = 40, nearest 32; capped at 8192.
    assert [list_count(size) for size in (1, 100, 10**6, 10**8)] == [4, 32, 4096, 8192]


def test_the_choice_is_announced(caplog):
    ids, vectors = clustered(300)
    with caplog.at_level(logging.INFO, logger="retrieval"):
        index = ItemIndex.build(ids, vectors)
        ItemIndex.build(ids, vectors, kind="hnsw")
    assert index.announcement == "flat (exact), 300 items of 16 numbers"
    chosen, asked = (record.getMessage() for record in caplog.records)
    assert chosen == (
        "Item index: flat (exact), 300 items of 16 numbers, chosen for 300 items; finds 100.0 % of the ten nearest"
    )
    assert "hnsw (64 candidates kept)" in asked
    assert "as asked for 300 items" in asked


@settings(max_examples=60, deadline=None)
@given(
    changes=st.lists(st.tuples(st.sampled_from(["add", "update", "remove"]), st.integers(0, 11)), max_size=30),
    kind=st.sampled_from(KINDS),
)
def test_any_changes_leave_what_a_dictionary_would_hold(changes, kind):
    generator = np.random.default_rng(0)
    items = {"first": np.ones(4, dtype=np.float32)}
    index = ItemIndex.build(["first"], np.ones((1, 4)), kind=kind)
    for action, number in changes:
        item, vector = f"item-{number}", generator.standard_normal(4).astype(np.float32)
        if action == "remove" and item in items:
            index.remove([item])
            del items[item]
        elif action == "update" and item in items:
            index.update([item], vector[None])
            items[item] = vector
        elif action == "add" and item not in items:
            index.add([item], vector[None])
            items[item] = vector
    assert index.ids == tuple(items)
    query = generator.standard_normal(4)
    found = index.search(query[None], len(items) + 1)[0][0]
    if kind != "ivf-pq":  # 16 bits may swap two that are almost equally near
        assert found == by_hand(list(items), np.stack(list(items.values())), query, len(items))
    assert sorted(found) == sorted(items)


@pytest.mark.parametrize(
    ("ids", "vectors", "message"),
    [
        (["a"], np.ones((2, 3)), "1 ids for 2 vectors; give one vector for each item"),
        (["a", "b", "a"], np.ones((3, 3)), "item 'a' is given twice"),
        (["a"], np.ones(3), r"vectors have shape \(3,\), expected \(number of texts, dimension\)"),
        (["a", "b"], np.array([[1, 2], [np.nan, 0]]), "vector 1 holds a number that is not finite"),
        (["a"], np.ones((1, 0)), "vectors have shape"),
    ],
)
def test_refuses_items_that_do_not_fit(ids, vectors, message):
    with pytest.raises(RetrievalError, match=message):
        ItemIndex.build(ids, vectors)


def test_refuses_changes_that_do_not_fit_and_stays_as_it_was(kind):
    ids, vectors = clustered(60)
    index = ItemIndex.build(ids, vectors, kind=kind)
    for change, message in [
        (lambda: index.add(["new", ids[0]], vectors[:2]), "'item-0' is in the index already; use update"),
        (lambda: index.add(["new"], vectors[:2]), "1 ids for 2 vectors"),
        (
            lambda: index.add(["new"], np.ones((1, 3))),
            "vectors have 3 numbers, the index has 16; encode with the encoder",
        ),
        (lambda: index.update([ids[0], "new"], vectors[:2]), "'new' is not among the 60 items"),
        (lambda: index.remove([ids[0], "new"]), "'new' is not among the 60 items"),
        (lambda: index.search(np.ones((1, 3)), 1), "vectors have 3 numbers, the index has 16"),
        (lambda: index.search(vectors[:1], 0), "k is 0, expected at least 1"),
        (lambda: index.search(vectors[:2], 1, [ids]), "1 sets to exclude for 2 queries"),
        (lambda: index.search(vectors[:1] * np.inf, 1), "not finite"),
    ]:
        with pytest.raises(RetrievalError, match=message):
            change()
    assert index.ids == tuple(ids)
    assert index.search(vectors[:1], 1)[0] == [ids[:1]]


def test_refuses_an_unknown_kind_and_nothing_to_train_on():
    with pytest.raises(RetrievalError, match="kind is 'tree', expected one of flat, hnsw, ivf-pq"):
        ItemIndex.build(["a"], np.ones((1, 2)), kind="tree")
    with pytest.raises(RetrievalError, match="ivf-pq is trained on vectors and was given none; use flat or hnsw"):
        ItemIndex.build([], np.ones((0, 2)), kind="ivf-pq")


@pytest.fixture
def saved(tmp_path):
    ids, vectors = clustered(60)
    ItemIndex.build(ids, vectors).save(tmp_path)
    return tmp_path


def truncate(folder):
    path = folder / "index.faiss"
    path.write_bytes(path.read_bytes()[:-100])


def flip_a_bit(folder):
    path = folder / "index.faiss"
    content = bytearray(path.read_bytes())
    content[-50] ^= 1
    path.write_bytes(content)


def change_json(**changes):
    def change(folder):
        path = folder / "index.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncate, r"index\.faiss is damaged \(it is not the file that index\.json was written with\)"),
        (flip_a_bit, r"index\.faiss is damaged"),
        (lambda folder: (folder / "index.faiss").unlink(), r"index\.faiss is missing: .* holds no item index"),
        (lambda folder: (folder / "index.json").unlink(), r"index\.json is missing"),
        (shutil.rmtree, r"index\.json is missing"),
        (lambda folder: (folder / "index.json").write_text("{"), r"index\.json is damaged \(it is not valid JSON"),
        (lambda folder: (folder / "index.json").write_bytes(b"\xff"), "is damaged"),
        (lambda folder: (folder / "index.json").write_text("[]"), "it is not of format version 1"),
        (change_json(format_version=99), "it is not of format version 1"),
        (change_json(kind="tree"), "kind 'tree' with a IndexFlatIP, expected one of flat, hnsw, ivf-pq"),
        (change_json(kind="ivf-pq"), "kind 'ivf-pq' with a IndexFlatIP"),
        (change_json(breadth=None), "not all whole numbers"),
        (change_json(ids=["a"]), "1 items for 60 vectors"),
        (change_json(ids=["a"] * 60), "an item is named twice"),
        (change_json(ids=list(range(60))), "ids are not all text"),
        (change_json(places=["x"] * 60), "not all whole numbers"),
        (change_json(removed=[60]), "a removed row is none of the rows"),
    ],
)
def test_damage_is_found_and_named(saved, damage, message):
    damage(saved)
    with pytest.raises(RetrievalError, match=message) as caught:
        ItemIndex.load(saved)
    assert "again from the catalogue" in str(caught.value) or "build it from the catalogue" in str(caught.value)


def test_a_file_that_is_no_index_is_refused_even_with_the_right_fingerprint(saved):
    import hashlib

    (saved / "index.faiss").write_bytes(b"not an index")
    change_json(sha256=hashlib.sha256(b"not an index").hexdigest())(saved)
    with pytest.raises(RetrievalError, match=r"is damaged .* build the item index again from the catalogue"):
        ItemIndex.load(saved)


def test_an_unwritable_folder_is_named(tmp_path):
    ids, vectors = clustered(5)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RetrievalError, match=r"cannot write the item index to .*file .*choose another place"):
        ItemIndex.build(ids, vectors).save(tmp_path / "file")


def test_a_failed_save_leaves_the_old_index(saved, monkeypatch):
    from retrieval import storage

    def fail(_, path):
        Path(path).write_bytes(b"half of it")
        raise RuntimeError("no space left")

    before = {path.name: path.read_bytes() for path in saved.iterdir()}
    index = ItemIndex.load(saved)
    index.remove(["item-0"])
    monkeypatch.setattr(storage.faiss, "write_index", fail)
    with pytest.raises(RetrievalError, match="no space left"):
        index.save(saved)
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before
