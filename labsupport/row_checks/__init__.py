"""Checks of rows one by one: columns, turns, characters, answers, what should not be there."""
