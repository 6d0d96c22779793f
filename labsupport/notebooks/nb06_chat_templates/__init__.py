"""Notebook 06: chat templates, and which tokens of a row are learned."""
