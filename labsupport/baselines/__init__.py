"""The numbers that a fine-tune has to beat."""
