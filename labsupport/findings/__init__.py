"""What checks yield: rules, evidence, and what a check gets to see."""
