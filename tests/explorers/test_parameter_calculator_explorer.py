"""The parameter calculator: its counts, its corners and what it says of a bad rank."""

import pytest

from labsupport.configs import model_configs
from labsupport.configs.model_configs import find
from labsupport.core.files import LabError
from labsupport.explorers import parameter_calculator_explorer
from labsupport.sizes import counting
from labsupport.sizes.counting import ALL_LINEAR
from labsupport.teaching import explorer_shell


def test_the_calculator_shows_the_count_and_redraws():
    explorer = parameter_calculator_explorer.explore("llama-3.1-8b", 16, "qkvo")
    assert "13,631,488 of 8,043,892,736 parameters (0.1695 %)" in explorer.view.heading
    assert "gate_proj" in explorer.out.value and explorer.view.alt in explorer.out.value
    explorer.controls["rank"].value = 32
    assert "27,262,976" in explorer.out.value
    explorer.controls["dora"].value = True
    assert f"{counting.dora_count(find('llama-3.1-8b'), 32, 'qkvo'):,}" in explorer.out.value
    explorer.controls["rank"].value = 0
    assert "at least 1" in explorer.out.value and "<table" not in explorer.out.value
    explorer.controls["rank"].value = 2000
    assert "k_proj of this model is 1024 x 4096" in explorer.out.value
    explorer.controls["rank"].value = 8
    for name in ALL_LINEAR:
        explorer.controls[name].value = False
    assert "No target is chosen" in explorer.out.value


@pytest.mark.parametrize("model", model_configs.llama_like())
def test_the_calculators_corners(model):
    config = find(model)
    for rank, dora in ((1, False), (min(counting.shapes(config)["k_proj"]), True)):
        view = parameter_calculator_explorer.view(model, rank, "all-linear", dora, "bfloat16")
        count = counting.dora_count if dora else counting.lora_count
        assert f"{count(config, rank):,}" in view.heading
        assert len(view.table) == 8 and explorer_shell.as_text(view) and view.figure is not None


@pytest.mark.parametrize("rank", [0, -4, 16.0, "16", True, None, 200])
def test_the_calculator_says_what_is_wrong_with_a_rank(rank):
    with pytest.raises(LabError) as of_view:
        parameter_calculator_explorer.view("smollm2-135m", rank, ["k_proj"])
    with pytest.raises(LabError) as of_count:
        counting.lora_count(find("smollm2-135m"), rank, ["k_proj"])
    assert str(of_view.value) == str(of_count.value)
