"""Evidence that is read out of a run's files, without a model."""
