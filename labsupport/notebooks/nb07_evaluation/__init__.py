"""Notebook 07: what an evaluation says, and what it cannot have seen."""
