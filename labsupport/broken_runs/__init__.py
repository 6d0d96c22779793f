"""Fine-tunes that are broken in a known way, made with a seed, and what can be asked of them."""
