from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.errors import RetrievalError
from retrieval.trie import TokenTrie

END = 0
bodies = st.lists(st.lists(st.integers(1, 5), max_size=5), min_size=1, max_size=30)


def children(trie: TokenTrie, node: int) -> list[int]:
    return list(range(trie.child_start[node], trie.child_start[node + 1]))


def below_or_at(trie: TokenTrie, node: int) -> np.ndarray:
    within = np.arange(trie.nodes) == node
    for child in range(node + 1, trie.nodes):
        within[child] = within[trie.parent[child]]
    return within


@settings(max_examples=150, deadline=None)
@given(bodies)
def test_the_trie_holds_exactly_its_sequences(found: list[list[int]]) -> None:
    sequences = [(*body, END) for body in found]
    trie = TokenTrie.build(sequences)
    assert [trie.sequence(row) for row in range(len(trie))] == sequences
    walked: list[tuple[int, ...]] = []
    chains = trie.chains()

    def walk(node: int, prefix: tuple[int, ...]) -> None:
        below = children(trie, node)
        items = trie.items[trie.item_start[node] : trie.item_start[node + 1]].tolist()
        assert bool(items) == (not below)
        assert items == sorted(items)
        walked.extend(prefix for _ in items)
        tokens = [int(trie.token[child]) for child in below]
        assert tokens == sorted(set(tokens))
        for child, token in zip(below, tokens, strict=True):
            assert trie.parent[child] == node
            walk(child, (*prefix, token))
        leaves = np.flatnonzero(np.isin(np.arange(trie.nodes), trie.leaf) & below_or_at(trie, node))
        assert chains[node] == (len(leaves) == 1)
        assert trie.items_below[node] == len(items) + sum(int(trie.items_below[child]) for child in below)

    walk(0, ())
    assert sorted(walked) == sorted(sequences)
    assert trie.vocabulary.tolist() == sorted({token for sequence in sequences for token in sequence})


def test_paths_lead_from_the_leaf_to_below_the_root() -> None:
    trie = TokenTrie.build([(1, 2, END), (1, 3, END), (4, END)])
    nodes, places = trie.paths(np.array([0, 2]))
    assert len(nodes) == 3 + 2
    assert sorted(trie.token[nodes[places == 0]].tolist()) == [END, 1, 2]
    assert 0 not in nodes
    assert [len(part) for part in trie.paths(np.array([], np.int64))] == [0, 0]


def test_items_can_be_added() -> None:
    sequences = [(1, 2, END), (3, END), (1, 2, END)]
    trie = TokenTrie.build(sequences).with_sequences([(3, 4, END), (3, END)])
    assert [trie.sequence(row) for row in range(5)] == [*sequences, (3, 4, END), (3, END)]


def test_a_sequence_that_begins_another_is_refused() -> None:
    with pytest.raises(RetrievalError, match="row 0 begin another item's"):
        TokenTrie.build([(1,), (1, 2)])


@pytest.mark.parametrize(
    ("sequences", "message"), [([], "catalogue is empty"), ([(1, END), ()], "row 1 has no tokens")]
)
def test_nothing_to_build_from(sequences: list[tuple[int, ...]], message: str) -> None:
    with pytest.raises(RetrievalError, match=message):
        TokenTrie.build(sequences)


def test_save_and_load(tmp_path: Path) -> None:
    trie = TokenTrie.build([(1, 2, END), (3, END)])
    trie.save(tmp_path / "trie.safetensors")
    again = TokenTrie.load(tmp_path / "trie.safetensors")
    assert [again.sequence(row) for row in range(2)] == [(1, 2, END), (3, END)]
    (tmp_path / "trie.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0nonsense")
    with pytest.raises(RetrievalError, match="is not a saved trie"):
        TokenTrie.load(tmp_path / "trie.safetensors")


def test_a_hundred_thousand_titles_are_small() -> None:
    random = np.random.default_rng(0)
    bodies = random.zipf(1.3, size=(100_000, 6)) % 40_000 + 1
    trie = TokenTrie.build([(*body, END) for body in bodies.tolist()])
    arrays = (trie.token, trie.parent, trie.child_start, trie.items_below, trie.leaf, trie.item_start, trie.items)
    assert sum(array.nbytes for array in arrays) < 200 * len(trie)
