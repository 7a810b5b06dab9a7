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
    """

    def __init__(self, examples: Sequence[Example], batch_tokens: int, seed: int, multiple: int = 1) -> None:
        self._multiple = multiple

        def width(example: Example) -> int:
            return -(-_length(example) // multiple) * multiple

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
            "input_ids": _pad([example.input_ids for example in group], 0, self._multiple),
            "attention_mask": _pad([(1,) * len(example.input_ids) for example in group], 0, self._multiple),
            "labels": _pad([example.labels for example in group], IGNORED, self._multiple),
        }


def _length(example: Example) -> int:
    return max(len(example.input_ids), len(example.labels))


def _pad(rows: Sequence[Sequence[int]], value: int, multiple: int) -> Tensor:
    width = -(-max(map(len, rows)) // multiple) * multiple
    return torch.tensor([[*row, *[value] * (width - len(row))] for row in rows])
