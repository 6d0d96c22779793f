"""What keeps the course itself in order: machine, notebooks, lock, speed."""
