"""The exercises of notebook 05, in its order."""

from __future__ import annotations

from labsupport import old_names
from labsupport.notebooks.nb05_memory_and_cost import cost_exercises, memory_exercises

block_keeps = memory_exercises.block_keeps
peak_of_step = memory_exercises.peak_of_step
method_for_card = memory_exercises.method_for_card
operations = cost_exercises.operations
priced = cost_exercises.priced


def __getattr__(name: str):
    return old_names.retired(__name__, name)
