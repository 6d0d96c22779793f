"""Other right answers to the exercises, a module for each notebook."""
