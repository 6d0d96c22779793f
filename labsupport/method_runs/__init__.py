"""Notebook 10's runs: LoRA, its relatives and other ways to fine-tune, on the same rows, and their costs."""
