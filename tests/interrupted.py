"""Ctrl-C at a moment that a test chooses."""

from pathlib import Path


def just_after(method: str, beginning: str):
    """A method of Path that does its work and then raises KeyboardInterrupt, for names that begin so."""
    real = getattr(Path, method)

    def stopped(path, *args, **kwargs):
        made = real(path, *args, **kwargs)
        if path.name.startswith(beginning):
            raise KeyboardInterrupt
        return made

    return stopped
