"""How many parameters models and adapters have, and what cards hold, by arithmetic: no torch."""
