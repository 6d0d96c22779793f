"""What takes hours and is recorded: a file an experiment, for whichever notebook reads its record.

How experiments run, resume and are published is in `evaluation.experiments`.
"""

from labsupport import old_names


def __getattr__(name: str):
    return old_names.found("experiments", name)
