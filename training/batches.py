"""Examples into batches: grouped by length, padded on the right.

Padding must never be attended to. Causal attention does not see tokens to the right, and their labels are ignored.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from torch import Tensor

from prompts.encoding import IGNORED, Example


class Batches(torch.utils.data.Dataset[dict[str, Tensor]]):
    """Examples, grouped by length into padded batches; one element is one batch.

    Args:
        examples: the training examples.
        batch_tokens: the most tokens of a batch, padding included; a longer example is a batch of its own.
        seed: the seed of the order among examples of one length.
        multiple: widths are multiples of this: each new shape costs time on a GPU, so there should be few.
        widest: the most tokens that the model has positions for; widths are not rounded up beyond it. None: no limit.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        batch_tokens: int,
        seed: int,
        multiple: int = 1,
        widest: int | None = None,
    ) -> None:
        self._multiple, self._widest = multiple, widest

        def width(example: Example) -> int:
            return self._rounded(_length(example))

        shuffled = list(examples)
        random.Random(seed).shuffle(shuffled)  # noqa: S311 - shuffling, not cryptography
        shuffled.sort(key=width)
        self.groups: list[list[Example]] = []
        for example in shuffled:
            group = self.groups[-1] if self.groups else []
            if not group or (len(group) + 1) * max(width(example), width(group[-1])) > batch_tokens:
                self.groups.append([example])
            else:
                group.append(example)

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, place: int) -> dict[str, Tensor]:
        group = self.groups[place]
        return {
            "input_ids": self._pad([example.input_ids for example in group], 0),
            "attention_mask": self._pad([(1,) * len(example.input_ids) for example in group], 0),
            "labels": self._pad([example.labels for example in group], IGNORED),
        }

    def _pad(self, rows: Sequence[Sequence[int]], value: int) -> Tensor:
        width = self._rounded(max(map(len, rows)))
        return torch.tensor([[*row, *[value] * (width - len(row))] for row in rows])

    def _rounded(self, length: int) -> int:
        width = -(-length // self._multiple) * self._multiple
        # A position that the model does not have is an index beyond its table: on a GPU that ends the process.
        return width if self._widest is None else max(length, min(width, self._widest))


def _length(example: Example) -> int:
    return max(len(example.input_ids), len(example.labels))
