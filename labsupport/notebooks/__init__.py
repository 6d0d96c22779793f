"""One folder a notebook: its exercises, questions, drawing and figures."""
