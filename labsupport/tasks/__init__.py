"""The course's data sets and their generators."""
