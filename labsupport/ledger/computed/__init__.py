"""Claims that arithmetic, shapes and random weights settle."""
