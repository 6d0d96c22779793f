"""The decision wizard as an explorer: its controls, hours at the learner's rate, and extreme values."""

import pytest

from labsupport.baselines import decision
from labsupport.baselines.decision import gpu_hours
from labsupport.core.files import LabError
from labsupport.explorers import decision_explorer as explorer


def test_the_wizard_takes_longer_where_only_4_bits_fit():
    def hours(gpu_gb: float) -> str:
        table = explorer.view(need="form", parameters_b=8, gpu_gb=gpu_gb).table
        return next(row["GPU hours"] for row in table if row["step"].startswith("LoRA"))

    plain, four = (gpu_hours("LoRA fine-tuning", 8, 0.1, four_bit, 200) for four_bit in (False, True))
    assert hours(40) == explorer.span(plain)
    assert hours(16) == explorer.span(four) != hours(40)
    assumed = [explorer.view(parameters_b=8, gpu_gb=size).table[-1]["why"] for size in (16, 40)]
    assert ["unpacked" in sentence for sentence in assumed] == [True, False]


def test_the_explorer_answers_its_controls():
    wizard = explorer.explore(need="form")
    assert "Next: prompt." in wizard.out.value
    wizard.controls["tried"].value = "few-shot"
    assert "Next: collect examples." in wizard.out.value
    wizard.controls["examples"].value = 2000
    assert "Next: LoRA fine-tuning." in wizard.out.value
    wizard.controls["good_enough"].value = True
    assert "Stop here" in wizard.out.value


def test_money_is_hours_times_the_learners_rate():
    def cells(rate):
        table = explorer.view(need="form", hourly_rate=rate).table
        return next(row for row in table if row["step"].startswith("LoRA"))

    assert cells(1.0)["money"] == cells(1.0)["GPU hours"]
    assert cells(0.0)["money"] == "0 to 0"


def test_the_explorer_says_what_is_wrong():
    with pytest.raises(LabError, match="hourly_rate is -1"):
        explorer.view(hourly_rate=-1)


def test_extreme_corners_are_drawn():
    corners = [
        {"parameters_b": b, "gpu_gb": g, "tokens_each": t}
        for b in (0.1, 500)
        for g in (4, 200)
        for t in (1, 10**5)
    ]
    wizard = explorer.explore()
    for corner in corners:
        for name, value in corner.items():
            wizard.controls[name].value = value
        assert "Next" in wizard.out.value


@pytest.mark.parametrize(
    ("control", "values"),
    {
        "good_enough": (False, True),
        "pairs": (0, 10_000),
        "several_gpus": (False, True),
        "domain_text": (False, True),
        "text_m": (1.0, 10_000.0),
    }.items(),
)
def test_a_control_that_matters_on_one_branch_matters_there(control, values):
    """Those that the browser test does not see move, because it starts on another branch."""
    branches = [
        {"need": need, "tried": tried, "examples": examples, "domain_text": control == "text_m"}
        for need in decision.NEEDS
        for tried in decision.TRIED
        for examples in (0, 10**6)
    ]
    changed = [
        explorer.view(**branch | {control: values[0]}).table
        != explorer.view(**branch | {control: values[1]}).table
        for branch in branches
    ]
    assert any(changed)
