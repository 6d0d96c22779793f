"""Training once, recorded; what decides a run; what a batch shares."""

from labsupport import old_names


def __getattr__(name: str):
    return old_names.found("training", name)
