"""What a step allocates over time, and what an allocator makes of it. Pure Python, no torch."""
