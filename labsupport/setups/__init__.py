"""What is trained and how, in one vocabulary, and what of it cannot be: no torch."""
