"""Checks of rows against each other: duplicates, near copies, leaks into the evaluation."""
