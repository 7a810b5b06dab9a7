"""Several processes of one training, as `accelerate launch` starts them: which one this is, and what they agree on.

Only the first process writes, and it decides for all when to stop and when to save: if each followed its own clock,
the others would wait forever for the one that stopped.
"""

from __future__ import annotations

import os

import torch


def count() -> int:
    """Return how many processes train together; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Say whether this is the process that writes."""
    return os.environ.get("RANK", "0") == "0"


def place_here() -> int:
    """Return this process' number among those of its machine."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def agreed(own: float, device: torch.device) -> float:
    """Return what the first process says.

    Args:
        own: what this process would say.
        device: where the processes' messages lie.
    """
    if not torch.distributed.is_initialized():
        return own
    said = torch.tensor([own], dtype=torch.float32, device=device)
    torch.distributed.broadcast(said, 0)
    return float(said.item())


def leave_group() -> None:
    """End what binds the processes together, each going on alone."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
