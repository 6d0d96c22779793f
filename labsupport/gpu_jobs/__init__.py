"""The jobs of the rented hour: what each asks, the time and memory it may take, and its own process."""
