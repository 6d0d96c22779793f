"""Broken runs to diagnose: made with a real trainer, recorded, and probed for money."""
