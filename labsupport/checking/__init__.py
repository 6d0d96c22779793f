"""Exercises: a learner's function run beside the reference, and what is wrong with it."""
