"""A trainer's output folder, opened; and the causes that a run can fail by."""
