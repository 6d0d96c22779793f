"""Where things are, and what every room stands on."""
