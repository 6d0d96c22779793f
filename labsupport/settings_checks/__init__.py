"""Checks of a fine-tune's settings: names, values, memory, money."""
