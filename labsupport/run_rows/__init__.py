"""What a run was fed, and the ways in which it may have been asked."""
