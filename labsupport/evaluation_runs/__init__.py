"""What the published records of notebook 07's experiments say: read, paired, drawn."""
