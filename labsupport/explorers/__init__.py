"""Explorers that more than one notebook uses."""
