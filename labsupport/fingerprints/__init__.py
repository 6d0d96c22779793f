"""Code and settings in a form that can be hashed: the basis of every "done before"."""
