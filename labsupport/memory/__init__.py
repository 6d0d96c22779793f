"""Will it fit? Peak memory of a run: by arithmetic on paper, and by tracing the real step."""

from labsupport import old_names


def __getattr__(name: str):
    return old_names.found("memory", name)
