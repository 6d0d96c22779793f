"""Will it fit? Peak memory of a run: by arithmetic on paper, and by tracing the real step."""
