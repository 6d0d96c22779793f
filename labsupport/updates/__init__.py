"""What training does to weights: its first steps, its rank, what is left when it is cut."""
