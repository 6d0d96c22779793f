"""The cost estimator: hours and money of your plan as ranges, beside QLoRA on one card and LoRA on several.

Nothing here was measured on a GPU: every figure is a prediction. The hourly rate is yours to give.
"""

from __future__ import annotations

import ipywidgets as widgets

from labsupport.core import plots
from labsupport.core.files import LabError
from labsupport.core.text import span
from labsupport.cost import cost_model
from labsupport.memory.setup import FOUR_BIT, METHODS, Setup, checked, config_named
from labsupport.planning import prose
from labsupport.sizes import gpus as cards
from labsupport.sizes import model_configs
from labsupport.teaching.explorer_shell import Explorer, View

WIDE = 30  # where the longest time is so many times the shortest, the axis is logarithmic
NAMES = {"lora": "LoRA", "qlora": "QLoRA", "dora": "DoRA", "qdora": "QDoRA", "rslora": "rsLoRA"}


def view(
    model: str = "llama-3.1-8b",
    method: str = "qlora",
    rows: int = 5000,
    tokens: int = 512,
    epochs: float = 3.0,
    checkpointing: bool = True,
    gpu: str = "l4",
    gpus: int = 1,
    rate: float = 1.0,
) -> View:
    """Your plan, and beside it QLoRA on one card and 16-bit LoRA on several, two at least.

    rows of `tokens` tokens each, seen `epochs` times; gpus: how many cards; rate: for an hour of one card, in
    your currency. Rank 16 on all linear layers. LabError for what cannot be estimated.
    """
    for what, value in (("rows", rows), ("gpus", gpus)):
        if not isinstance(value, int) or isinstance(value, bool):
            raise LabError(f"{what} is {value!r}: it must be a whole number, at least 1.")
    card = cards.find(gpu)
    setup = checked(Setup(config_named(model), method, length=tokens, checkpointing=checkpointing))
    mine = cost_model.estimate(setup, rows, epochs, card, rate, gpus)
    if not mine.tokens:
        raise LabError(f"{rows} x {tokens} tokens seen {epochs:g} times are not one whole token: give more.")
    usual = cost_model.compare(setup, rows, epochs, card, rate, max(2, gpus))
    plans = {(each.method, each.gpus): each for each in (mine, *usual)}
    plans = {plan_name(each, card): each for each in plans.values()}
    heading = (
        f"A prediction: {plan_name(mine, card)} takes {span(mine.hours)} hours, which is {span(mine.money)} "
        f"in your currency at {rate:g} an hour and card{unverified(mine)}."
    )
    return View(heading, table(plans, card), *figure(model, plans))


def plan_name(plan: cost_model.Cost, card: cards.Card) -> str:
    return f"{NAMES.get(plan.method, plan.method)} on {plan.gpus} x {card.name.upper()}"


def unverified(plan: cost_model.Cost) -> str:
    return " (NF4: UNVERIFIED on a GPU)" if plan.method in FOUR_BIT else ""


def table(plans: dict[str, cost_model.Cost], card: cards.Card) -> list[dict]:
    """The formula, a factor a row, a plan a column, and what each factor rests on."""

    def factor(name: str, of, source: str) -> dict:
        return {"": name} | {each: of(plan) for each, plan in plans.items()} | {"where it comes from": source}

    def between(values: tuple[float, float], applies: bool = True) -> str:
        return f"{values[0]:g} to {values[1]:g}" if applies else "1"

    return [
        factor("tokens", lambda plan: f"{plan.tokens:,}", "rows x tokens a row x epochs"),
        factor(
            "x operations a token",
            lambda plan: f"{plan.flops / plan.tokens:.3g}",
            "cost_model.flops_per_token",
        ),
        factor(
            "/ cards' operations a second",
            lambda plan: f"{card.peak_tflops * plan.gpus * 1e12:.3g}",
            "the maker's promise for dense 16-bit products, not checked on a card",
        ),
        factor(
            "/ share of it sustained",
            lambda plan: between(cost_model.UTILISATION),
            "an assumption; published for pretraining: 0.26 to 0.47 (see cost_model.py)",
        ),
        factor(
            "/ share that several cards keep",
            lambda plan: between(cost_model.PARALLEL, plan.gpus > 1),
            "an assumption",
        ),
        factor(
            "x for unpacking 4 bits",
            lambda plan: between(cost_model.DEQUANTISATION, plan.method in FOUR_BIT),
            f"an assumption; {prose.UNVERIFIED}",
        ),
        factor("/ 3600 = hours", lambda plan: span(plan.hours), "without loading, evaluation and set-up"),
        factor(
            "x cards x rate = money",
            lambda plan: span(plan.money),
            "at your rate; whether it fits a card is the VRAM planner's question",
        ),
    ]


def figure(model: str, plans: dict[str, cost_model.Cost]):
    """(figure, alt): the range of hours of each plan as a bar, its money beside it."""
    fig, axes = plots.figure(height=2.4, place=(0.22, 0.21, 0.76, 0.66))
    low, high = min(p.hours[0] for p in plans.values()), max(p.hours[1] for p in plans.values())
    wide = high / low > WIDE
    axes.set_axisbelow(True)
    for place, plan in enumerate(plans.values()):
        start, end = plan.hours
        axes.barh(place, end - start, left=start, height=0.5, color=plots.BLUE if place else plots.ORANGE)
        money = f"money {span(plan.money)}"
        axes.annotate(money, (end, place), (6, 0), textcoords="offset points", va="center")
    # Room on the right for the money.
    axes.set(xlim=(low / 1.5, high * (high / low) ** 0.5) if wide else (0, 1.4 * high))
    if wide:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:,g}")
        axes.minorticks_off()
    else:
        axes.locator_params(axis="x", nbins=5)
    axes.set_yticks(range(len(plans)), list(plans))
    axes.set_ylim(len(plans) - 0.4, -0.6)
    axes.set(xlabel="hours, predicted; NF4 (QLoRA, QDoRA): UNVERIFIED on a GPU")
    first = next(iter(plans))
    axes.set_title(f"{model}: {first} takes {span(plans[first].hours)} hours")
    each = "; ".join(
        f"{name} {span(plan.hours)} hours and {span(plan.money)} of money{unverified(plan)}"
        for name, plan in plans.items()
    )
    return fig, f"Bars from the least to the most hours predicted for {model}: {each}."


def explore(
    model: str = "llama-3.1-8b",
    method: str = "qlora",
    rows: int = 5000,
    tokens: int = 512,
    epochs: float = 3.0,
    checkpointing: bool = True,
    gpu: str = "l4",
    gpus: int = 1,
    rate: float = 1.0,
) -> Explorer:
    """The estimator with its controls, started at these values. LabError if they are bad."""
    view(model, method, rows, tokens, epochs, checkpointing, gpu, gpus, rate)
    drop, whole, decimal = widgets.Dropdown, widgets.BoundedIntText, widgets.BoundedFloatText
    controls = {
        "model": drop(options=model_configs.names(), value=model.lower(), description="model"),
        "method": drop(options=METHODS, value=method, description="method"),
        "rows": whole(value=rows, min=1, max=10**8, description="rows"),
        "tokens": whole(value=tokens, min=1, max=131_072, description="tokens a row"),
        "epochs": decimal(value=epochs, min=0.1, max=100, step=0.5, description="epochs"),
        "checkpointing": widgets.Checkbox(
            value=checkpointing, description="activation checkpointing", indent=False
        ),
        "gpu": drop(options=cards.names(), value=cards.find(gpu).name, description="card"),
        "gpus": whole(value=gpus, min=1, max=64, description="cards"),
        "rate": decimal(value=rate, min=0, max=1000, step=0.1, description="your rate an hour and card"),
    }
    return Explorer(view, controls, "Cost estimator")
