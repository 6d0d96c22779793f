"""Notebook 10: DoRA and other ways of training little, from scratch and beside PEFT's."""
