"""The base model, its shape, its adapters, its number formats, its chat template."""
