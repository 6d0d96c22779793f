"""DoRA's extra operations in training, counted on the meta device: nothing is computed, no weight is there.

PEFT's layer multiplies B and A out at each call to know the rows' lengths (dora.py, get_lora_weight): work
that does not grow with the tokens. With dropout it also multiplies the frozen weight by the
dropped inputs once more, forwards and backwards (base_result is None there), which comes near doubling LoRA's
step.
"""

from __future__ import annotations

import functools
import json

import torch

from labsupport.configs import model_configs
from labsupport.method_runs import methods


def blocks_step(config: dict, tokens: int, layers: int, dora: bool, dropout: float) -> int:
    """Operations of a training step on one row of so many tokens, of `layers` blocks with their attention and
    of the head; LoRA or DoRA of rank 16 on all linear layers, no checkpointing. config: of a Llama-like
    model."""
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import LlamaConfig, LlamaForCausalLM

    settings = {name: config[name] for name in model_configs.SIZES} | {"num_hidden_layers": layers}
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(**settings, attn_implementation="eager"))
        adapted = methods.on_linears(model, config, use_dora=dora, lora_dropout=dropout).train()
        ids = torch.zeros(1, tokens, dtype=torch.long)
        mask = torch.zeros(1, 1, tokens, tokens)  # whole, or it would be made from data, which is not there
    with FlopCounterMode(display=False) as counter:
        adapted(input_ids=ids, attention_mask=mask, use_cache=False).logits.sum().backward()
    return counter.get_total_flops()


@functools.cache
def _step(config: str, tokens: int, dora: bool, dropout: float) -> int:
    fields = json.loads(config)
    one, two = (blocks_step(fields, tokens, layers, dora, dropout) for layers in (1, 2))
    return one + (fields["num_hidden_layers"] - 1) * (two - one)


def extra(config: dict, tokens: int, dropout: float = 0.0) -> float:
    """DoRA's operations beyond LoRA's in a training step as a share of LoRA's: rank 16, all linear layers.

    tokens: of a step, in one row. Blocks are alike, so one and two of them are counted and the rest is added
    up.
    """
    text = json.dumps(model_configs.checked(config), sort_keys=True)
    return _step(text, tokens, True, dropout) / _step(text, tokens, False, dropout) - 1
