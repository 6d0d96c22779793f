"""Notebook 03's figure of recipes."""

from labsupport.configs.model_configs import find
from labsupport.notebooks.nb03_counting_parameters import figures
from labsupport.sizes import counting


def test_recipes_are_told_by_rank():
    config, ranks = find("mistral-7b-v0.3"), [8, 16, 32, 64]
    found = counting.configurations(config, 27_262_976, ranks)
    shown = figures.recipes(config, 27_262_976, found, ranks).data
    assert "0 at rank 8, 3 at rank 16, 7 at rank 32, 4 at rank 64" in shown
