"""The training step that the notebook looks at, traced once."""

from __future__ import annotations

import functools
import json

from labsupport.allocations.streams import Stream
from labsupport.memory.setup import Setup
from labsupport.planning import footprint


def traced(setup: Setup) -> Stream:
    """The allocations of two training steps in all blocks of a packed run. Traced once, remembered after."""
    return _traced(json.dumps(vars(setup)))  # a Setup holds a dict, so it cannot be a key itself


@functools.cache
def _traced(setup: str) -> Stream:
    return footprint.trace_steps(Setup(**json.loads(setup)))[0]
