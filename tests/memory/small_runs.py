"""A run that is traced, or really taken, in a moment."""

import dataclasses

from labsupport.configs import model_configs
from labsupport.setups.setup import Setup


def small(layers: int = 4, **options) -> Setup:
    """SmolLM2-135M's shape with so many layers, two rows of 128 tokens, plain loop; options: other fields."""
    config = dict(model_configs.find("smollm2-135m"), num_hidden_layers=layers)
    usual = Setup(config=config, batch=2, length=128, attention="eager", trainer="plain")
    return dataclasses.replace(usual, **options)


def told(stream) -> list:
    """What a stream says, without the numbers of its blocks."""
    return [(stream.blocks[number], *rest) for number, *rest in stream.events]
