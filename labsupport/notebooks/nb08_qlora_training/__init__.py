"""Notebook 08: a fine-tune on a base in four bits, and one that is killed on the way."""
