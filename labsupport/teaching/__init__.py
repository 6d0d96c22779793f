"""Questions, explorers, claims and predictions: the machinery, without contents."""
