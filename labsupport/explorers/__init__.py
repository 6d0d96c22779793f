"""What can be tried with controls: a file an explorer, for whichever notebook shows it."""
