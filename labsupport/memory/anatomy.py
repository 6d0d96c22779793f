"""Where the parts of a causal language model are, whatever transformers calls them in its family."""

from __future__ import annotations

import re

_IN_A_LAYER = re.compile(r"(?:^|\.)(?:layers|h)\.(\d+)\.")


def core(model):
    """The transformers model, with adapters or without."""
    return model.get_base_model() if hasattr(model, "peft_config") else model


def layers(model):
    """The blocks, in order: a module list."""
    backbone = core(model).base_model
    return backbone.layers if hasattr(backbone, "layers") else backbone.h


def last_norm(model):
    """The norm between the last block and the head."""
    backbone = core(model).base_model
    return backbone.norm if hasattr(backbone, "norm") else backbone.ln_f


def layer_of_name(name: str) -> int | None:
    """The block a parameter belongs to: "model.layers.3.mlp.up_proj.weight" is in layer 3."""
    found = _IN_A_LAYER.search(name)
    return int(found.group(1)) if found else None
