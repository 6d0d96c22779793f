"""Chat formats: published templates, the same by hand, what of a row is trained, a row token by token."""
