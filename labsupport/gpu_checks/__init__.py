"""A few steps of fine-tunes with random weights on a real card, beside what planning and cost say of them."""
