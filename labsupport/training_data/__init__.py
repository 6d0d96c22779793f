"""Anyone's training data: reading the files, and the forms that rows come in."""
