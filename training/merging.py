"""Merging an adapter into its base: one layer at a time, so that the base never takes more memory than the result.

Each layer's sum is computed in fp32 and rounded once. The library's own merge of a bf16 base rounds twice: the
adapter's part, then the sum. Loading the base in fp32 for merging takes twice the memory of the result.
`model.to(bf16)` is wrong, too: it rounds values that a model keeps in fp32 on purpose, such as the frequencies
of rotary positions, so the served positions would differ from those of training.
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
