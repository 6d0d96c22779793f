"""A run's vocabulary, and its real step traced on the meta device."""

from labsupport import old_names


def __getattr__(name: str):
    return old_names.found("memory", name)
