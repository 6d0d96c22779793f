"""What settles the rows of the claims page: a function for each, with the row's id above it, by subject."""
