"""One planned hour on a rented card: which jobs, run unattended within a money limit, read at home."""
