"""One folder a notebook: its exercises, questions, figures and experiments."""
