"""How long a run takes and what it costs."""

from labsupport import old_names


def __getattr__(name: str):
    return old_names.found("cost", name)
