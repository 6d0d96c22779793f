"""A real training step traced on the meta device, and what stands in for a GPU there."""

from labsupport import old_names


def __getattr__(name: str):
    return old_names.found("memory", name)
