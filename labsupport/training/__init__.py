"""Training once, recorded; what decides a run; what a batch shares."""
