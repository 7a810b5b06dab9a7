"""Tokens from meaning: the vector of a title's token is a function of what the item is, plus a residual of its own.

    vector(token) = f(text vector of the item) + residual(token)

f is small and learnt with the model; the residual is the embedding itself. In each step, the residuals of a share of
the items are dropped, in the input and in the head alike, so f learns to stand alone. An item that nobody took has no
residual at all and no place in the loss, so it stands where a new item will. After training, the plain checkpoint holds
the sums as ordinary embeddings, and f lies beside it: a new item gets its vector without any training.

Sources: Hou et al., "Towards universal sequence representation learning for recommender systems", KDD 2022 (UniSRec:
text vectors through a small learnt network); Yuan et al., "Where to go next for recommender systems? ID- vs.
modality-based recommender models revisited", SIGIR 2023 (vectors of items in place of ids, learnt end to end); Volkovs,
Yu and Poutanen, "DropoutNet: addressing cold start in recommender systems", NeurIPS 2017 (what is dropped in training
can be missing in use).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.errors import BackboneError

FILE = "meaning.safetensors"
"""The file beside a base's weights that holds f."""

TEXT_WIDTH = "text_width"
"""What is told of vectors that begin with a text's: how many numbers are the text's. The others are centred."""

DIRECTIONS = 256
"""Principal directions of the text vectors that f reads; more tell little and cost time in each step."""

WHITENING = 0.5
"""How far the directions are brought to one variance: 0 leaves them, 1 makes them equal."""

FloatArray = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Directions:
    """How text vectors become the inputs of f: principal directions, brought nearer to one variance.

    Attributes:
        centre: the mean vector, of shape (width of vectors,).
        axes: principal directions times their factors, of shape (width of vectors, directions).
    """

    centre: FloatArray
    axes: FloatArray

    @classmethod
    def of(cls, vectors: FloatArray, most: int | None = None, whitening: float | None = None) -> Self:
        """Find the directions of some items' vectors; the inputs have a variance of 1 on average.

        Args:
            vectors: shape (items, width); rows of zeros are items without a vector and count nothing.
            most: how many directions are kept; None: `DIRECTIONS`.
            whitening: see `WHITENING`; None: as it says.
        """
        most, whitening = most or DIRECTIONS, WHITENING if whitening is None else whitening
        told = vectors[vectors.any(axis=1)].astype(np.float64)
        if not len(told):
            raise BackboneError("no item has a vector, so no token can have its vector from what the item is")
        centre = told.mean(axis=0)
        values, axes = np.linalg.eigh((told - centre).T @ (told - centre) / len(told))
        values, axes = values[::-1][:most], axes[:, ::-1][:, :most]
        kept = values > 1e-6 * max(values[0], 1e-12)
        values, axes = values[kept], axes[:, kept]
        # The sign of a direction is an accident of the library; here the largest part points up.
        signs = np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])]) if axes.size else np.ones(0)
        factors = values ** (-whitening / 2)
        scale = 1 / np.sqrt(max((values * factors**2).mean(), 1e-12)) if len(values) else 1.0
        return cls(centre.astype(np.float32), (axes * signs * factors * scale).astype(np.float32))

    def inputs(self, vectors: FloatArray) -> FloatArray:
        """Return the inputs of f, of shape (items, directions), from vectors of shape (items, width)."""
        found: FloatArray = ((vectors - self.centre) @ self.axes).astype(np.float32)
        return found


class ItemFunction(torch.nn.Module):
    """f: a projection of an item's inputs, and beside it a hidden layer that starts silent.

    Args:
        inputs: how many numbers f reads of an item.
        width: of the token vectors.
        hidden: units of the hidden layer; 0: a projection alone.
        spread: the standard deviation of the token vectors to start from.
    """

    def __init__(self, inputs: int, width: int, hidden: int, spread: float) -> None:
        super().__init__()
        self.straight = torch.nn.Linear(inputs, width)
        self.up = torch.nn.Linear(inputs, hidden) if hidden else None
        self.down = torch.nn.Linear(hidden, width, bias=False) if hidden else None
        with torch.no_grad():
            self.straight.weight.zero_()
            self.straight.bias.zero_()
            # The first directions, one for each number of the token's vector.
            self.straight.weight[range(min(inputs, width)), range(min(inputs, width))] = spread
            if self.down is not None:
                self.down.weight.zero_()

    def forward(self, given: Tensor) -> Tensor:
        """Return token vectors, of shape (items, width), from inputs of shape (items, inputs)."""
        found: Tensor = self.straight(given)
        if self.up is not None and self.down is not None:
            found = found + self.down(torch.nn.functional.gelu(self.up(given)))
        return found


class Meaning(torch.nn.Module):
    """What the tokens of whole titles get from their items' vectors, while a model learns.

    Args:
        model: the model in training, with its head.
        answers: each item's tokens.
        vectors: each item's vector, of shape (items, width); rows of zeros: no vector.
        taken: how often each item was taken in training, of shape (items,).
        hidden: units of f's hidden layer.
        dropped: the share of items whose residual is dropped in a step.
        learnt: whether the model was trained elsewhere, so that a title's token has a start of its own (the mean of its
            pieces) beside which f begins silent; else f begins as the first directions.
        seed: of the drawing.
        told: what made the vectors; it is kept beside f.
    """

    tokens: Tensor
    given: Tensor
    known: Tensor

    def __init__(
        self,
        model: Any,
        answers: Sequence[Sequence[int]],
        vectors: FloatArray,
        taken: NDArray[np.int64],
        hidden: int,
        dropped: float,
        learnt: bool = False,
        seed: int = 0,
        told: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self._learnt, self._told = learnt, dict(told or {})
        rows = [row for row, answer in enumerate(answers) if len(answer) == 1 and vectors[row].any()]
        if not rows:
            raise BackboneError("no title is one token and has a vector; raise vocabulary, or leave out the vectors")
        told_rows = [row for row in rows if taken[row]]
        self.directions = Directions.of(vectors[told_rows or rows])
        self._dropped, self._draw = dropped, torch.Generator().manual_seed(seed)
        self.register_buffer("tokens", torch.tensor([answers[row][0] for row in rows]), persistent=False)
        self.register_buffer("given", torch.from_numpy(self.directions.inputs(vectors[rows])), persistent=False)
        self.register_buffer("known", torch.from_numpy(taken[rows] > 0), persistent=False)
        embedding, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
        weights = [embedding] if head is embedding else [embedding, head]
        spread = 0.0 if learnt else float(embedding.detach().std())
        inputs = self.given.shape[1]
        self.functions = torch.nn.ModuleList(
            ItemFunction(inputs, weight.shape[1], hidden, spread) for weight in weights
        )
        for number, weight in enumerate(weights):
            start = weight.detach()[self.tokens]
            self.register_buffer(f"start{number}", start if learnt else torch.zeros_like(start), persistent=False)
            with torch.no_grad():
                weight[self.tokens] = 0.0
        # Not registered: they are the model's own parameters.
        self._weights = tuple(weights)
        self._module = (model.get_input_embeddings(),)

    def unknown(self, tokens: Tensor) -> Tensor:
        """Return which of some tokens are of items with a vector that nobody took, of shape (tokens,)."""
        new = self.tokens[~self.known].to(tokens.device)
        return torch.isin(tokens, new)

    def tables(self) -> tuple[Tensor, Tensor]:
        """Return the vectors of all tokens, in the input and in the head; while training, some without residual."""
        kept = self.known
        if self.training and self._dropped:
            drawn = torch.rand(len(self.tokens), generator=self._draw) >= self._dropped
            kept = kept & drawn.to(kept.device)
        found = []
        for number, (weight, function) in enumerate(zip(self._weights, self.functions, strict=True)):
            own = weight[self.tokens] * kept[:, None]
            vectors = self.get_buffer(f"start{number}") + function(self.given) + own
            found.append(weight.index_copy(0, self.tokens, vectors))
        return found[0], found[-1]

    def embed(self, table: Tensor, ids: Tensor) -> Tensor:
        """Return the model's own embedding of some tokens, by a table in place of its weights."""
        found: Tensor = torch.func.functional_call(self._module[0], {"weight": table}, (ids,))
        return found

    @contextmanager
    def folded(self) -> Iterator[None]:
        """Have the model's own weights hold the sums for a while, so that it can be saved as it would be used."""
        before = [weight.detach().clone() for weight in self._weights]
        training = self.training
        self.eval()
        try:
            with torch.no_grad():
                for weight, table in zip(self._weights, self.tables()[: len(self._weights)], strict=False):
                    weight.copy_(table)
            yield
        finally:
            with torch.no_grad():
                for weight, old in zip(self._weights, before, strict=True):
                    weight.copy_(old)
            self.train(training)

    def save(self, path: Path) -> None:
        """Write f, its directions and what made its vectors as safetensors."""
        from safetensors.numpy import save

        arrays = {name: tensor.detach().cpu().numpy() for name, tensor in self.functions.state_dict().items()}
        arrays |= {"centre": self.directions.centre, "axes": self.directions.axes, "tokens": self.tokens.cpu().numpy()}
        with torch.inference_mode():
            for number, function in enumerate(self.functions):
                alone = self.get_buffer(f"start{number}") + function(self.given)
                arrays[f"alone{number}"] = alone.cpu().numpy()
        told = {"start": "pieces" if self._learnt else "zero", **self._told}
        path.write_bytes(save({name: np.ascontiguousarray(array) for name, array in arrays.items()}, told))


@dataclass(frozen=True, slots=True)
class SavedMeaning:
    """f as it lies beside a base: it gives a new item's token its vector.

    Attributes:
        directions: what f reads of a text vector.
        functions: one for the input's and the head's vectors, or one for each.
        from_pieces: whether a token's vector starts from the mean of its title's pieces.
        told: what made the text vectors, as it was told in training.
        tokens: int64 [titles]; the tokens of the titles with a vector.
        alone: what their vectors are in the input and in the head without their residuals, each float32
            [titles, width].
    """

    directions: Directions
    functions: tuple[ItemFunction, ...]
    from_pieces: bool
    told: Mapping[str, str]
    tokens: NDArray[np.int64]
    alone: tuple[FloatArray, FloatArray]

    @classmethod
    def load(cls, folder: Path) -> Self | None:
        """Read what lies beside a base; None where there is nothing.

        Raises:
            BackboneError: the file is damaged.
        """
        from safetensors import safe_open

        path = folder / FILE
        if not path.is_file():
            return None
        try:
            with safe_open(path, "pt") as file:
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
                told = dict(file.metadata() or {})
            directions = Directions(arrays.pop("centre").numpy(), arrays.pop("axes").numpy())
            tokens = arrays.pop("tokens").numpy()
            alone = [arrays.pop(name).numpy() for name in ("alone0", "alone1") if name in arrays]
            functions = []
            for number in range(1 + max(int(name.partition(".")[0]) for name in arrays)):
                own = {key.partition(".")[2]: value for key, value in arrays.items() if key.startswith(f"{number}.")}
                width, inputs = own["straight.weight"].shape
                hidden = len(own["up.bias"]) if "up.bias" in own else 0
                function = ItemFunction(inputs, width, hidden, 0.0)
                function.load_state_dict(own)
                functions.append(function.eval())
        except Exception as error:  # safetensors raises several kinds, some of its own
            raise BackboneError(f"{path} cannot be read ({error}); make the base again") from error
        return cls(directions, tuple(functions), told.pop("start", "") == "pieces", told, tokens, (alone[0], alone[-1]))

    @torch.inference_mode()
    def vectors(self, given: FloatArray, starts: Sequence[Tensor] | None = None) -> tuple[FloatArray, FloatArray]:
        """Return the vectors of new tokens in the input and in the head, each of shape (items, width).

        Args:
            given: the items' vectors, of shape (items, width of vectors), or of their texts alone.
            starts: the mean of each title's pieces in the input and in the head, where `from_pieces`.

        Raises:
            BackboneError: the text vectors have another width than those of training.
        """
        lacking = len(self.directions.centre) - given.shape[1]
        if lacking > 0 and self.told.get(TEXT_WIDTH) == str(given.shape[1]):
            # Of what stands beside the text, such as a picture, nothing is known: it is taken as the mean.
            given = np.pad(given, ((0, 0), (0, lacking)))
        if given.shape[1] != len(self.directions.centre):
            raise BackboneError(
                f"the text vectors have {given.shape[1]} numbers, those that the base learnt from had "
                f"{len(self.directions.centre)}; use the encoder that it was made with"
            )
        inputs = torch.from_numpy(self.directions.inputs(given))
        found = [function(inputs) for function in self.functions]
        both = [found[0], found[-1]]
        if starts is not None:
            both = [vector + start.float().cpu() for vector, start in zip(both, starts, strict=True)]
        return both[0].numpy(), both[1].numpy()
