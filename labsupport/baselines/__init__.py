"""The numbers that a fine-tune has to beat."""

from labsupport import old_names


def __getattr__(name: str):
    return old_names.found("baselines", name)
