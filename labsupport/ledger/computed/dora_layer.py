"""Claims about DoRA's layer that follow from its code: where its norms lie, and what it adds to a step."""

from __future__ import annotations

from labsupport.configs import model_configs
from labsupport.method_runs import dora_cost
from labsupport.teaching.claims import shows


@shows("G1")
def norms_lie_along_the_rows() -> str:
    """The magnitudes that PEFT makes for a down_proj that is not square."""
    import torch
    from peft import LoraConfig, get_peft_model
    from torch import nn

    layer = nn.Linear(512, 192)
    config = LoraConfig(r=2, target_modules=["0"], use_dora=True)
    model = get_peft_model(nn.Sequential(layer), config)
    m = model.base_model.model[0].lora_magnitude_vector.default.weight
    along = "in, one an output" if torch.allclose(m, layer.weight.norm(dim=1)) else "out, one an input"
    return (
        f"PEFT, a layer of {layer.in_features} in and {layer.out_features} out: {len(m)} norms along {along}"
    )


@shows("G5")
def more_operations_than_lora() -> str:
    """DoRA's operations in training beyond LoRA's, rank 16 on all linear layers of Llama-3.1-8B."""
    config, parts = model_configs.find("llama-3.1-8b"), []
    for dropout in (0.0, 0.05):
        shares = [f"{100 * dora_cost.extra(config, tokens, dropout):+.1f} %" for tokens in (128, 512, 4096)]
        parts.append(f"dropout {dropout:g} {', '.join(shares)}")
    return f"Llama-3.1-8B, rank 16, 128, 512 and 4,096 tokens a step: {'; '.join(parts)}"
