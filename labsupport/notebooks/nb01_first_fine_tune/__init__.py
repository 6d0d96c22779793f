"""Notebook 01."""
