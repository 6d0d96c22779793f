"""What a config.json says of a model, read and checked: no torch."""
