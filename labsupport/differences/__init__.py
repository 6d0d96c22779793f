"""Two results beside each other: whether they agree, and what their difference is."""
