"""How good is it, and how sure are we?"""

from labsupport import old_names


def __getattr__(name: str):
    return old_names.found("evaluation", name)
