"""What the course had before, exercises above all; notebooks copied then still ask for it."""
