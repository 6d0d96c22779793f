"""Explorers, one module each: `view(**values)` is the plain call, `explore(**values)` adds the controls."""
