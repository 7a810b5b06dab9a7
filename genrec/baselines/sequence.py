"""SASRec and GRU4Rec as baselines: a small network reads the history's item numbers and scores the next item.

One network, two encoders: causal self-attention (Kang and McAuley, "Self-attentive sequential recommendation", ICDM
2018) or a gated recurrent unit (Hidasi et al., "Session-based recommendations with recurrent neural networks", ICLR
2016). Both are trained with cross-entropy over the whole catalogue and not, as in the papers, against a few sampled
negatives: that alone makes them as strong as their successors (Klenitskiy and Vasilev, "Turning dross into gold loss:
is BERT4Rec really better than SASRec?", RecSys 2023; Petrov and Macdonald, "gSASRec", RecSys 2023).

Histories stand at the left of a batch and padding at the right, where a causal encoder never attends. So padding needs
no mask, and an item's position is its place in the window. Importing this module imports torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import ClassVar, Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from genrec.data.catalog import Catalog
from genrec.data.rows import IntArray
from genrec.data.splits import History
from genrec.errors import DataError
from genrec.signals.arrays import Arrays, FloatArray, padded
from training.losses import catalogue_loss

BLOCK = 64
"""Histories scored in one pass. Every pass has this shape, so a history's scores do not depend on its neighbours."""

NO_TARGET = -1


@dataclass(frozen=True, slots=True)
class SequenceSettings:
    """The shape of a sequence model and how it is trained.

    Attributes:
        dimension: length of the item vectors and of the hidden state.
        layers: attention blocks, or stacked recurrent units.
        heads: attention heads; they divide the dimension. A recurrent encoder has none and ignores it.
        length: how many of the latest items are read.
        dropout: share of hidden values dropped in training.
        learning_rate: AdamW's, without warm-up.
        weight_decay: AdamW's, per step and unit of learning rate.
        popularity_offset: this times log(count) is added to every item's score in training but not in scoring. So the
            network learns what popularity does not explain. 0.5 has the effect of sampling negatives by count^0.5.
            Source: Menon et al., "Long-tail learning via logit adjustment", ICLR 2021.
        batch_size: windows in one step.
        epochs: passes over all training histories.
    """

    dimension: int = 64
    layers: int = 2
    heads: int = 2
    length: int = 50
    dropout: float = 0.5
    learning_rate: float = 0.002
    weight_decay: float = 0.0
    popularity_offset: float = 0.0
    batch_size: int = 256
    epochs: int = 60

    @classmethod
    def from_numbers(cls, numbers: Mapping[str, float]) -> Self:
        """Build from a search's plain numbers by name; missing ones keep their defaults."""
        whole = {field.name for field in fields(cls) if field.type == "int"}
        return cls(**{name: int(value) if name in whole else value for name, value in numbers.items()})  # type: ignore[arg-type]


class Block(nn.Module):
    """Causal self-attention and a feed-forward layer, each normalised before and added to its input."""

    def __init__(self, dimension: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.attention_norm, self.feed_norm = nn.LayerNorm(dimension), nn.LayerNorm(dimension)
        self.projections = nn.Linear(dimension, 3 * dimension)
        self.merge = nn.Linear(dimension, dimension)
        self.feed = nn.Sequential(
            nn.Linear(dimension, 4 * dimension), nn.GELU(), nn.Linear(4 * dimension, dimension), nn.Dropout(dropout)
        )

    def forward(self, hidden: Tensor) -> Tensor:
        """Return hidden states of the same shape (batch, length, dimension)."""
        batch, length, dimension = hidden.shape
        mixed = self.projections(self.attention_norm(hidden))
        query, key, value = mixed.view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        dropped = self.dropout if self.training else 0.0
        attended = F.scaled_dot_product_attention(query, key, value, is_causal=True, dropout_p=dropped)
        merged = self.merge(attended.transpose(1, 2).reshape(batch, length, dimension))
        hidden = hidden + F.dropout(merged, self.dropout, self.training)
        fed: Tensor = self.feed(self.feed_norm(hidden))
        return hidden + fed


class Network(nn.Module):
    """Item vectors, an encoder, and scores by inner product with the same item vectors."""

    def __init__(self, items: int, encoder: Literal["attention", "recurrent"], settings: SequenceSettings) -> None:
        super().__init__()
        size = settings.dimension
        self.items = nn.Embedding(items, size)
        self.positions = nn.Embedding(settings.length, size) if encoder == "attention" else None
        self.blocks = nn.ModuleList()
        self.recurrent = None
        if encoder == "attention":
            self.blocks.extend(Block(size, settings.heads, settings.dropout) for _ in range(settings.layers))
        else:
            between = settings.dropout if settings.layers > 1 else 0.0
            self.recurrent = nn.GRU(size, size, settings.layers, batch_first=True, dropout=between)
        self.dropout = nn.Dropout(settings.dropout)
        self.norm = nn.LayerNorm(size)
        for table in (self.items, self.positions):
            if table is not None:
                nn.init.normal_(table.weight, std=0.02)

    def forward(self, rows: Tensor) -> Tensor:
        """Return a hidden state for each place of item rows of shape (batch, length)."""
        # Scaled as in the paper's code: item vectors start small, since they are also the output layer.
        hidden = self.items(rows) * self.items.embedding_dim**0.5
        if self.positions is not None:
            hidden = hidden + self.positions.weight[: rows.shape[1]]
        hidden = self.dropout(hidden)
        for block in self.blocks:
            hidden = block(hidden)
        if self.recurrent is not None:
            hidden = self.dropout(self.recurrent(hidden)[0])
        normed: Tensor = self.norm(hidden)
        return normed


def train_epochs(
    sequences: Sequence[IntArray],
    items: int,
    encoder: Literal["attention", "recurrent"],
    settings: SequenceSettings,
    seed: int,
) -> Iterator[Network]:
    """Train a network and yield it after each epoch; requesting the next epoch changes the same network.

    Args:
        sequences: catalogue rows, oldest first; sequences with fewer than two items are not used.
        items: size of the catalogue.
        encoder: the kind of network.
        settings: its shape and training.
        seed: the seed of weights, dropout, windows and batch order. Each epoch has its own seed, so code that runs
            between epochs changes nothing, and torch's global seed stays unchanged.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Network(items, encoder, settings)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, betas=(0.9, 0.98)
    )
    counts = np.bincount(np.concatenate([*sequences, np.zeros(0, dtype=np.int64)]), minlength=items)
    offsets = torch.from_numpy(settings.popularity_offset * np.log(np.maximum(counts, 1))).float()
    for epoch in range(settings.epochs):
        rng = np.random.default_rng((seed, epoch))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(rng.integers(2**62)))
            network.train()
            for inputs, targets in _batches(_windows(sequences, settings.length, rng), settings.batch_size, rng):
                real = targets != NO_TARGET
                loss = catalogue_loss(network(inputs)[real], network.items.weight, targets[real], offsets)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
        yield network.eval()


def _windows(sequences: Sequence[IntArray], length: int, rng: np.random.Generator) -> list[IntArray]:
    """Cut sequences so that each item but the first is a target once; the cuts of long ones change every epoch."""
    windows = []
    for rows in sequences:
        first = int(rng.integers(length)) if len(rows) > length + 1 else len(rows)
        cuts = sorted({0, *range(first, len(rows) - 1, length), max(len(rows) - 1, 0)})
        windows += [rows[start : end + 1] for start, end in pairwise(cuts)]
    return windows


def _batches(windows: Sequence[IntArray], batch_size: int, rng: np.random.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield inputs and targets, padded at the right; windows of similar length are batched, in random order."""
    lengths = np.array([len(window) for window in windows])
    order = np.argsort(lengths + rng.uniform(0, 3, len(windows)))
    groups = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    for number in rng.permutation(len(groups)):
        group = groups[number]
        inputs = torch.zeros((len(group), int(lengths[group].max()) - 1), dtype=torch.long)
        targets = torch.full_like(inputs, NO_TARGET)
        for place, window in enumerate(group):
            rows = torch.from_numpy(windows[window])
            inputs[place, : len(rows) - 1], targets[place, : len(rows) - 1] = rows[:-1], rows[1:]
        yield inputs, targets


@dataclass(frozen=True, slots=True, eq=False)
class SequenceModel:
    """A trained sequence model as a signal: inner products of the history's last hidden state and the item vectors.

    An item that no training history holds keeps its first, random vector; such items are scored below all others.

    Attributes:
        catalog: gives items their rows.
        network: the trained network, in evaluation mode.
        known: whether a training history holds the item, of shape (items,).
        settings: the network's shape and training.
    """

    encoder: ClassVar[Literal["attention", "recurrent"]]
    catalog: Catalog
    network: Network
    known: NDArray[np.bool_]
    settings: SequenceSettings

    @classmethod
    def fit(cls, catalog: Catalog, histories: Sequence[History], settings: SequenceSettings, seed: int = 0) -> Self:
        """Train for all the epochs of the settings."""
        # All epochs yield the same network, so keeping each model until the next one keeps only one.
        return list(cls.fit_epochs(catalog, histories, settings, seed))[-1]

    @classmethod
    def fit_epochs(
        cls, catalog: Catalog, histories: Sequence[History], settings: SequenceSettings, seed: int = 0
    ) -> Iterator[Self]:
        """Yield the model after each epoch; use it before requesting the next, which changes it.

        Raises:
            DataError: no history has two items, so there is nothing to learn, or the settings have no epoch.
        """
        if settings.epochs < 1:
            raise DataError(f"a sequence model needs at least one epoch; given {settings.epochs}")
        sequences = [np.array(catalog.rows(history.items), dtype=np.int64) for history in histories]
        if not any(len(rows) > 1 for rows in sequences):
            raise DataError("a sequence model needs histories of at least two items; none was given")
        known = np.zeros(len(catalog), dtype=np.bool_)
        known[np.concatenate(sequences)] = True
        for network in train_epochs(sequences, len(catalog), cls.encoder, settings, seed):
            yield cls(catalog, network, known, settings)

    @torch.inference_mode()
    def score(self, histories: Sequence[History]) -> FloatArray:
        """Return the scores; an empty history gets zeros."""
        scores = np.zeros((len(histories), len(self.catalog)), dtype=np.float32)
        filled = [row for row, history in enumerate(histories) if history.items]
        for start in range(0, len(filled), BLOCK):
            block = filled[start : start + BLOCK]
            inputs = torch.zeros((BLOCK, self.settings.length), dtype=torch.long)
            last = torch.zeros(BLOCK, dtype=torch.long)
            for place, row in enumerate(block):
                rows = self.catalog.rows(histories[row].items[-self.settings.length :])
                inputs[place, : len(rows)], last[place] = torch.tensor(rows), len(rows) - 1
            hidden = self.network(inputs)[torch.arange(BLOCK), last]
            scores[block] = (hidden @ self.network.items.weight.T).numpy()[: len(block)]
            lowest = scores[block].min(axis=1, keepdims=True)
            scores[block] = np.where(self.known, scores[block], lowest - 1)
        return scores

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return the arrays that `from_arrays` needs: the weights by name, and `known`."""
        weights = {name: tensor.numpy() for name, tensor in self.network.state_dict().items()}
        return {"known": self.known, **weights}

    @classmethod
    def from_arrays(cls, catalog: Catalog, arrays: Arrays, settings: SequenceSettings) -> Self:
        """Build from the arrays of `to_arrays`, for the same catalogue or one with items appended."""
        weights = {name: torch.from_numpy(np.array(values)) for name, values in arrays.items() if name != "known"}
        weights["items.weight"] = torch.from_numpy(padded(arrays["items.weight"], len(catalog)))
        network = Network(len(catalog), cls.encoder, settings)
        network.load_state_dict(weights)
        return cls(catalog, network.eval(), padded(arrays["known"], len(catalog)).astype(np.bool_), settings)


class SASRec(SequenceModel):
    """The attention encoder."""

    __slots__ = ()
    name: ClassVar[str] = "sasrec"
    encoder: ClassVar[Literal["attention", "recurrent"]] = "attention"


class GRU4Rec(SequenceModel):
    """The recurrent encoder."""

    __slots__ = ()
    name: ClassVar[str] = "gru4rec"
    encoder: ClassVar[Literal["attention", "recurrent"]] = "recurrent"
