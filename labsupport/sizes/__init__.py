"""What models, adapters and cards measure, by arithmetic: no torch."""
