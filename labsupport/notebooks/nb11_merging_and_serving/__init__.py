"""Notebook 11: an adapter merged by hand and by the libraries, and models that answer over HTTP."""
