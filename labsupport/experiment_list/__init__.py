"""The experiments: one module each, see labsupport/experiments.py."""
