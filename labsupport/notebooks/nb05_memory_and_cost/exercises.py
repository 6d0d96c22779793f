"""The exercises of notebook 05, in its order."""

from __future__ import annotations

from labsupport.notebooks.nb05_memory_and_cost import cost_exercises, memory_exercises

kept_by_a_block = memory_exercises.kept_by_a_block
peak_bytes = memory_exercises.peak_bytes
recipe_for = memory_exercises.recipe_for
operations = cost_exercises.operations
estimate = cost_exercises.estimate


def __getattr__(name: str):
    """Exercises that the notebook had before: copies that learners made then still ask for them here."""
    from labsupport.notebooks.nb05_memory_and_cost import retired

    try:
        return getattr(retired, name)
    except AttributeError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
