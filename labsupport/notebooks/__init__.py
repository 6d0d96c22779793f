"""One folder a notebook: its exercises, questions, claims, explorers and experiments."""
