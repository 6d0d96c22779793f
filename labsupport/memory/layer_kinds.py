"""Which layers of a model are alike, so that a few of them, traced, stand for all.

Some models take turns: Gemma-2 and -3 attend to a window in some layers, SmolLM3 leaves positions out of
every fourth. Layers of one kind, between neighbours of the same kinds, do the same.
"""

from __future__ import annotations

from labsupport.core.files import LabError
from labsupport.memory import workload
from labsupport.setups.setup import Setup

FEWEST = 3  # the first, an inner one and the last
MOST_WHOLE = 200  # layers traced one by one, where they follow no pattern: about five seconds


def kinds(setup: Setup) -> list[tuple]:
    """What each layer does, as far as it may differ from layer to layer."""
    depth = setup.config["num_hidden_layers"]
    config = workload.library_config(setup.config, depth)
    types = getattr(config, "layer_types", None) or [None] * depth
    turned = getattr(config, "no_rope_layers", None) or [1] * depth
    window = getattr(config, "sliding_window", None)
    # A window that holds the whole row hides nothing: the layer is as any other.
    narrow = window is not None and setup.length >= window
    return [
        (narrow and kind == "sliding_attention", bool(turn)) for kind, turn in zip(types, turned, strict=True)
    ]


def period(found: list[tuple]) -> int:
    """The smallest number of layers after which the kinds repeat themselves."""
    fits = (p for p in range(1, len(found)) if all(a == b for a, b in zip(found, found[p:], strict=False)))
    return next(fits, len(found))


def to_trace(setup: Setup) -> tuple[int, int]:
    """(layers to trace, period): the first layer, one period of inner ones, and as many as it takes to end
    like the whole model. All layers, if no fewer will do; LabError if those are too many."""
    depth = setup.config["num_hidden_layers"]
    if depth <= FEWEST:
        return depth, 1
    repeated = period(kinds(setup))
    shallow = repeated + 2 + (depth - repeated - 2) % repeated
    if shallow < depth:
        return shallow, repeated
    if depth > MOST_WHOLE:
        raise LabError(
            f"The model has {depth:,} layers of several kinds in no order that repeats itself: at most "
            f"{MOST_WHOLE} such layers can be planned."
        )
    return depth, 1
