"""The trie of a catalogue's token sequences, as flat arrays.

Nodes are numbered level by level, and the children of a node are adjacent, in token order. So the children of node `n`
are the nodes from `child_start[n]` to before `child_start[n + 1]`, and everything that a decoder needs is an array
operation. Node 0 is the root.

Sequences must be prefix-free: they end with a terminator that occurs nowhere else. Items with equal sequences share one
leaf; it holds all of them, in catalogue order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval.errors import RetrievalError

Int = NDArray[np.int32]
Long = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class TokenTrie:
    """A catalogue's token sequences.

    Attributes:
        token: int32 [nodes]; the token that leads to the node (root: -1).
        parent: int32 [nodes]; the node above (root: -1).
        child_start: int32 [nodes + 1]; where the node's children begin.
        items_below: int32 [nodes]; how many items end at or below the node.
        leaf: int32 [items]; the node at which the item's sequence ends.
        item_start: int32 [nodes + 1]; where the node's items begin in `items`.
        items: int32 [items]; item rows, grouped by leaf.
    """

    token: Int
    parent: Int
    child_start: Int
    items_below: Int
    leaf: Int
    item_start: Int
    items: Int

    @classmethod
    def build(cls, sequences: Sequence[Sequence[int]]) -> TokenTrie:
        """Build the trie of one token sequence for each item, in catalogue order.

        Raises:
            RetrievalError: there are no sequences, one is empty, or one is the beginning of another.
        """
        if not sequences:
            raise RetrievalError("a trie needs at least one item; the catalogue is empty")
        lengths = np.fromiter(map(len, sequences), np.int64, len(sequences))
        if not lengths.all():
            raise RetrievalError(f"item row {int(np.argmin(lengths))} has no tokens; every item needs a label")
        flat = np.fromiter((token for sequence in sequences for token in sequence), np.int64, int(lengths.sum()))
        return cls._from_flat(flat, lengths)

    @classmethod
    def _from_flat(cls, flat: Long, lengths: Long) -> TokenTrie:
        """Build level by level: at each depth, equal (parent, token) pairs become one node."""
        starts = np.cumsum(lengths) - lengths
        width = int(flat.max()) + 1
        node = np.zeros(len(lengths), np.int64)  # the node that each sequence has reached
        going = np.arange(len(lengths))
        tokens, parents = [np.array([-1], np.int32)], [np.array([-1], np.int32)]
        count, depth = 1, 0
        while len(going):
            keys, inverse = np.unique(node[going] * width + flat[starts[going] + depth], return_inverse=True)
            node[going] = count + inverse
            parents.append((keys // width).astype(np.int32))
            tokens.append((keys % width).astype(np.int32))
            count += len(keys)
            depth += 1
            going = going[lengths[going] > depth]
        parent = np.concatenate(parents)
        child_start = np.searchsorted(parent, np.arange(count + 1)).astype(np.int32)
        if (child_start[node] != child_start[node + 1]).any():
            row = int(np.flatnonzero(child_start[node] != child_start[node + 1])[0])
            raise RetrievalError(
                f"the tokens of item row {row} begin another item's; end every sequence with a terminator of its own"
            )
        items_below = np.bincount(node, minlength=count)
        for level in reversed(range(1, len(parents))):
            first = sum(map(len, parents[:level]))
            below = slice(first, first + len(parents[level]))
            items_below += np.bincount(parent[below], weights=items_below[below], minlength=count).astype(np.int64)
        return cls(
            token=np.concatenate(tokens),
            parent=parent,
            child_start=child_start,
            items_below=items_below.astype(np.int32),
            leaf=node.astype(np.int32),
            item_start=np.searchsorted(np.sort(node), np.arange(count + 1)).astype(np.int32),
            items=np.argsort(node, kind="stable").astype(np.int32),
        )

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self.leaf)

    @property
    def nodes(self) -> int:
        """The number of nodes, root included."""
        return len(self.token)

    @property
    def vocabulary(self) -> Int:
        """The distinct tokens that the catalogue uses, sorted."""
        return np.unique(self.token[1:])

    def chains(self) -> NDArray[np.bool_]:
        """Return for each node whether only one leaf is at or below it, bool [nodes]."""
        chain: NDArray[np.bool_] = self.child_start[1:] == self.child_start[:-1]
        single = np.flatnonzero(np.diff(self.child_start) == 1)
        while True:
            # One level up at a time; as many rounds as the longest chain has nodes.
            new = single[chain[self.child_start[single]]]
            if not len(new):
                return chain
            chain[new] = True
            single = single[~chain[single]]

    def sequence(self, row: int) -> tuple[int, ...]:
        """Return one item's token sequence."""
        tokens, node = [], int(self.leaf[row])
        while node:
            tokens.append(int(self.token[node]))
            node = int(self.parent[node])
        return tuple(reversed(tokens))

    def with_sequences(self, new: Sequence[Sequence[int]]) -> TokenTrie:
        """Return a trie with items appended; building anew takes milliseconds per ten thousand items."""
        return TokenTrie.build([*(self.sequence(row) for row in range(len(self))), *new])

    def paths(self, rows: NDArray[Any]) -> tuple[Long, Long]:
        """Return every node on the paths from the root (left out) to some items' leaves.

        Args:
            rows: int array [n] of item rows.

        Returns:
            Two int64 arrays of one length: nodes, and for each the place in `rows` of the item it leads to.
        """
        node = self.leaf[rows].astype(np.int64)
        place = np.arange(len(node))
        nodes, places = [node], [place]
        while True:
            node = self.parent[node].astype(np.int64)
            place, node = place[node > 0], node[node > 0]
            if not len(node):
                return np.concatenate(nodes), np.concatenate(places)
            nodes.append(node)
            places.append(place)

    def save(self, path: Path) -> None:
        """Write the arrays as a safetensors file."""
        from safetensors.numpy import save

        # `save_file` makes a file that only its owner can read, whatever the umask says.
        path.write_bytes(save({entry.name: getattr(self, entry.name) for entry in fields(self)}))

    @classmethod
    def load(cls, path: Path) -> TokenTrie:
        """Read what `save` wrote.

        Raises:
            RetrievalError: the file is missing, damaged, or holds something else.
        """
        from safetensors.numpy import load_file

        try:
            arrays = load_file(path)
            return cls(**{entry.name: arrays[entry.name] for entry in fields(cls)})
        except Exception as error:  # safetensors raises several kinds, some of them its own
            raise RetrievalError(f"{path} is not a saved trie ({error}); make the run folder again") from error
