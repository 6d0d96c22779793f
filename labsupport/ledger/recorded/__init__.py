"""Claims that runs of the course settle, published or taken while you wait."""
