"""The exercises of the notebooks, one module a notebook, and the engine that checks them."""
