"""The cost estimator as an explorer: it shows what `lab.py cost` finds, in words, table and figure."""

import itertools

import pytest

from labsupport.configs import model_configs
from labsupport.core import text
from labsupport.core.files import LabError
from labsupport.cost import cost_model
from labsupport.explorers import cost_estimator_explorer as estimator
from labsupport.setups.setup import METHODS, Setup
from labsupport.sizes import gpus
from labsupport.teaching import explorer_shell


def cells(view: explorer_shell.View, column: str) -> dict[str, str]:
    return {row[""]: row[column] for row in view.table if column in row}


@pytest.mark.parametrize(("method", "gpus_", "plans"), [("qlora", 1, 2), ("dora", 1, 3), ("lora", 4, 2)])
def test_its_figures_are_those_of_lab_cost(method, gpus_, plans):
    given = {"rows": 700, "tokens": 300, "epochs": 2.0, "rate": 1.7, "batch": 2}
    view = estimator.view("llama-2-7b", method, gpu="a10", gpus=gpus_, checkpointing=False, **given)
    config = model_configs.find("llama-2-7b")
    setup = Setup(config, method, batch=2, length=300, checkpointing=False)
    card = gpus.find("a10")
    mine = cost_model.estimate(setup, 700, 2.0, card, 1.7, gpus_)
    single, several = cost_model.compare(setup, 700, 2.0, card, 1.7, max(2, gpus_))
    names = [name for name in explorer_shell.columns(view) if " on " in name]
    assert len(names) == plans and names[0] == estimator.plan_name(mine, card)
    for plan in (mine, single, several):
        shown = cells(view, estimator.plan_name(plan, card))
        assert shown["tokens"] == f"{700 * 300 * 2:,}"
        assert shown["operations a token"] == f"{plan.flops / plan.tokens:.3g}"
        assert shown["hours"] == text.span(plan.hours) and shown["money"] == text.span(plan.money)
        assert shown["fits"] == ("yes" if plan.fits else "NO")
    assert f"{text.span(mine.hours)} hours" in view.heading and text.span(mine.money) in view.heading


@pytest.mark.parametrize("options", [{}, {"gpus": 3, "method": "qdora"}, {"tokens": 30, "batch": 1}])
def test_the_parts_of_the_time_add_up_to_all_of_it(options):
    view = estimator.view(**options)
    for name in explorer_shell.columns(view)[1:-1]:
        shown = cells(view, name)
        shares = [float(value.rstrip("%")) for line, value in shown.items() if line.startswith("of it ")]
        assert sum(shares) == pytest.approx(100, abs=3)  # whole percents, and none of less than half of one


def test_the_heading_says_what_binds():
    assert "Most of it goes into multiplying with the weights." in estimator.view(tokens=2048).heading
    quick = estimator.view("smollm2-135m", "lora", tokens=30, batch=1, gpu="h100")
    assert "Most of it goes into starting kernels." in quick.heading


def test_what_would_be_cheaper_is_in_the_table():
    shown = cells(estimator.view(tokens=100, batch=1, gpu="a100-80"), "QLoRA on 1 x A100-80")
    for words in (
        "pack rows",
        "64 rows a micro-batch",
        "no activation checkpointing",
        "lora on 16-bit weights",
    ):
        assert words in shown["cheaper"]
    assert shown["cheaper on another card"].startswith("h200 ")


def test_packing_puts_the_same_tokens_into_fewer_rows():
    loose, packed = (
        cells(estimator.view(tokens=128, batch=1, packed=choice), "QLoRA on 1 x L4")
        for choice in (False, True)
    )
    assert packed["tokens"] == f"{3 * -(-5000 * 128 // 2048) * 2048:,}"
    assert float(packed["hours"].split()[0]) < 0.6 * float(loose["hours"].split()[0])


def test_bars_are_the_ranges_of_hours_also_on_a_logarithmic_axis():
    scales = set()
    for cards in (2, 64):
        view = estimator.view(gpus=cards)
        axes = view.figure.axes[0]
        scales.add(axes.get_xscale())
        card, setup = gpus.find("l4"), Setup(model_configs.find("llama-3.1-8b"), "qlora")
        mine = cost_model.estimate(setup, 5000, 3.0, card, 1.0, cards)
        plans = [mine, *cost_model.compare(setup, 5000, 3.0, card, 1.0, cards)]
        bars = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in axes.patches]
        assert bars == [pytest.approx(plan.hours) for plan in plans]
        assert axes.get_xlim()[1] > max(plan.hours[1] for plan in plans)
        assert "predict" in view.alt and "predict" in axes.get_xlabel()
    assert scales == {"linear", "log"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model": "nothing"}, "no model 'nothing'"),
        ({"method": "lorra"}, "nearest first: lora"),
        ({"rows": 0}, "rows is 0"),
        ({"rows": 1.5}, "rows is 1.5"),
        ({"gpus": 0}, "gpus is 0"),
        ({"gpus": True}, "gpus is True"),
        ({"batch": 0}, "batch is 0"),
        ({"epochs": float("nan")}, "epochs is nan"),
        ({"rows": 1, "tokens": 1, "epochs": 0.1}, "not one whole token"),
        ({"tokens": 0}, "tokens a row. is 0"),
        ({"model": "smollm2-135m", "tokens": 9000}, "8192 positions"),
        ({"rate": -1.0}, "rate is -1"),
        ({"gpu": "24"}, "speed of 24 GiB is not known"),
    ],
)
def test_it_says_what_is_wrong(options, words):
    with pytest.raises(LabError, match=words) as caught:
        estimator.view(**options)
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


def extremes(control) -> tuple:
    if hasattr(control, "options"):
        return control._options_full[0][1], control._options_full[-1][1]
    return (control.min, control.max) if hasattr(control, "max") else (False, True)


def test_every_corner_is_drawn_or_gets_a_sentence():
    ends = {name: extremes(control) for name, control in estimator.explore().controls.items()}
    together = ("gpu", "checkpointing", "rate", "batch", "packed")
    alone = [name for name in ends if name not in together]
    for places in itertools.product((0, 1), repeat=len(alone) + 1):
        where = dict(zip(alone, places[:-1], strict=True)) | dict.fromkeys(together, places[-1])
        what = {name: ends[name][place] for name, place in where.items()}
        too_long = what["tokens"] > model_configs.find(what["model"])["max_position_embeddings"]
        nothing = what["rows"] == what["tokens"] == 1 and what["epochs"] < 0.5 and not what["packed"]
        if too_long or nothing:
            with pytest.raises(LabError):
                estimator.view(**what)
            continue
        view = estimator.view(**what)
        assert "prediction" in view.heading and view.figure is not None and len(view.alt) > 60
        assert all(
            str(value) not in ("", "None", "nan", "inf") for row in view.table for value in row.values()
        )


def test_a_model_that_is_not_loaded_in_4_bits_stands_alone():
    view = estimator.view("falcon-7b", "lora", gpu="a100-80")
    assert [name for name in explorer_shell.columns(view) if " on " in name] == ["LoRA on 1 x A100-80"]


def test_controls_redraw():
    explorer = estimator.explore()
    seen = {explorer.out.value}
    changes = {"model": "qwen2.5-7b", "method": "full", "rows": 77, "tokens": 100, "epochs": 1.5, "gpu": "t4"}
    changes |= {"checkpointing": False, "gpus": 8, "rate": 2.5, "batch": 3, "packed": True}
    assert set(changes) == set(explorer.controls)
    for count, (name, value) in enumerate(changes.items(), start=2):
        explorer.controls[name].value = value
        seen.add(explorer.out.value)
        assert len(seen) == count


def test_every_method_is_predicted_and_none_is_called_unverified():
    for method in METHODS:
        view = estimator.view(method=method)
        assert "predict" in view.heading and "UNVERIFIED" not in explorer_shell.as_text(view) + view.alt


def test_explore_refuses_bad_start_values_and_labels_every_control():
    with pytest.raises(LabError, match="nearest first"):
        estimator.explore(method="lorra")
    controls = estimator.explore("Llama-3.1-8B", gpu="RTX 4090").controls
    assert controls["gpu"].value == "4090"
    labels = [control.description for control in controls.values()]
    assert all(labels) and len(set(labels)) == len(labels)
