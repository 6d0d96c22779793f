"""An adapter looked at before it is served, and a running server's replies beside its own."""
