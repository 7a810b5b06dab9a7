"""Several processes of one training, as `accelerate launch` starts them: their numbers, and their common decisions.

Only the first process writes, and it decides for all when to stop and when to save. If each process followed its own
clock, the others would wait forever for the one that stopped first.
"""

from __future__ import annotations

import os

import torch


def count() -> int:
    """Return how many processes train together; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Return whether this is the process that writes."""
    return os.environ.get("RANK", "0") == "0"


def place_here() -> int:
    """Return this process' number among those of its machine."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def agreed(own: float, device: torch.device) -> float:
    """Return the first process' value in every process.

    Args:
        own: this process' value.
        device: the device for the messages between processes.
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
