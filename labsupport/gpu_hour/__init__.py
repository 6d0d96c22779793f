"""One planned hour on a rented card: jobs by value, unattended, within a money limit, brought home."""
