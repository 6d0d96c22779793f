"""What `lab.py preflight` looks for in the data and the settings of a fine-tune."""
