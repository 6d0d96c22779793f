"""Training `data/tiny_base` from scratch: its texts, its tokenizer, the training."""
