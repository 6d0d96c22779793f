"""What the claims page checks: each function computes one row and returns its `measured` text."""
