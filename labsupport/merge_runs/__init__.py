"""Notebook 11's runs: one QLoRA adapter merged in every way and what of it survives; adapters added up."""
