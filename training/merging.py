"""Merging an adapter into its base: one layer at a time, so that the base is never held in more than it will be.

Each layer's sum is made in fp32 and rounded once. The trap is to have the library merge a base in bf16: it rounds the
adapter's part first and the sum again; and to load the base in fp32 for that takes twice the memory of what comes out.
Another is `model.to(bf16)`: it rounds what a model keeps in fp32 on purpose, such as the frequencies of rotary
positions, so that it would be served with other positions than it was trained with.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch


@torch.no_grad()
def merged(model: Any, adapter: Path, dtype: torch.dtype) -> Any:
    """Return a model with a saved LoRA adapter in its weights.

    Args:
        model: the base, in the number format in which it is stored; it is changed.
        adapter: the adapter's folder.
        dtype: what the weights become.
    """
    from peft import PeftModel
    from peft.tuners.lora import LoraLayer

    adapted = PeftModel.from_pretrained(model, adapter)
    for module in adapted.modules():
        if isinstance(module, LoraLayer):
            weight = module.get_base_layer().weight
            for name in module.active_adapters:
                weight.data = (weight.data.float() + module.get_delta_weight(name).float()).to(dtype)
    whole = adapted.unload()
    stored = whole.state_dict().keys()
    for name, tensor in (*whole.named_parameters(), *whole.named_buffers()):
        if name in stored and tensor.is_floating_point():
            tensor.data = tensor.data.to(dtype)
    return whole
