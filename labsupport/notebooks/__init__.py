"""One folder a notebook: its exercises, questions, explorers and experiments."""
