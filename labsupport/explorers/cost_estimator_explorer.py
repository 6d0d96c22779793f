"""The cost estimator: hours and money of your plan as ranges, where its time goes, and what would be cheaper.

Beside it QLoRA on one card and LoRA on several. Nothing here was measured by this course: every figure is a
prediction, held against published times in cost/evidence.py. The hourly rate is yours to give.
"""

from __future__ import annotations

import contextlib

import ipywidgets as widgets

from labsupport.configs import model_configs
from labsupport.core import plots
from labsupport.core.files import LabError
from labsupport.core.text import span
from labsupport.cost import cost_model, step_time
from labsupport.setups.setup import METHODS, Setup, checked, config_named
from labsupport.sizes import gpus as cards
from labsupport.teaching.explorer_shell import Explorer, View

PACKED = 2048  # tokens of a packed row
SHOWN = 0.005  # a part of the time that is less has no line
WIDE = 30  # where the longest time is so many times the shortest, the axis is logarithmic
NAMES = {"lora": "LoRA", "qlora": "QLoRA", "dora": "DoRA", "qdora": "QDoRA", "rslora": "rsLoRA"}


def view(
    model: str = "llama-3.1-8b",
    method: str = "qlora",
    rows: int = 5000,
    tokens: int = 512,
    epochs: float = 3.0,
    batch: int = 4,
    packed: bool = False,
    checkpointing: bool = True,
    gpu: str = "l4",
    gpus: int = 1,
    rate: float = 1.0,
) -> View:
    """Your plan, and beside it QLoRA on one card and 16-bit LoRA on several, two at least.

    rows of `tokens` tokens each, seen `epochs` times, `batch` rows a micro-batch; packed: put into rows of
    PACKED tokens; gpus: how many cards; rate: for an hour of one card, in your currency. Rank 16 on all
    linear layers. LabError for what cannot be estimated.
    """
    for what, value in (("rows", rows), ("gpus", gpus)):
        if not isinstance(value, int) or isinstance(value, bool):
            raise LabError(f"{what} is {value!r}: it must be a whole number, at least 1.")
    card = cards.find(gpu)
    options = {"batch": batch, "checkpointing": checkpointing, "padded": not packed}
    setup = checked(Setup(config_named(model), method, length=tokens, **options))
    if packed:
        length = min(PACKED, setup.config.get("max_position_embeddings") or PACKED)
        rows = -(-rows * tokens // length)
        setup = checked(Setup(setup.config, method, length=length, **options))
    mine = cost_model.estimate(setup, rows, epochs, card, rate, gpus)
    usual = ()
    with contextlib.suppress(LabError):  # a model that is not loaded in 4 bits
        usual = cost_model.compare(setup, rows, epochs, card, rate, max(2, gpus))
    plans = {(each.method, each.gpus): each for each in (mine, *usual)}
    plans = {plan_name(each, card): each for each in plans.values()}
    heading = (
        f"A prediction: {plan_name(mine, card)} takes {span(mine.hours)} hours, which is {span(mine.money)} "
        f"in your currency at {rate:g} an hour and card. Most of it goes into {cost_model.WHAT[mine.binds]}."
    )
    return View(heading, table(plans), *figure(model, plans))


def plan_name(plan: cost_model.Cost, card: cards.Card) -> str:
    return f"{NAMES.get(plan.method, plan.method)} on {plan.gpus} x {card.name.upper()}"


def table(plans: dict[str, cost_model.Cost]) -> list[dict]:
    """A line a factor and a term, a plan a column, and what each rests on."""

    def line(name: str, of, source: str) -> dict:
        return {"": name} | {each: of(plan) for each, plan in plans.items()} | {"where it comes from": source}

    def share(name: str):
        return lambda plan: f"{sum(plan.terms[name]) / sum(plan.hours):.0%}"

    return [
        line("tokens", lambda plan: f"{plan.tokens:,}", "rows x tokens a row x epochs"),
        line(
            "operations a token",
            lambda plan: f"{plan.flops / plan.tokens:.3g}",
            "operations.flops_per_token",
        ),
        line("hours", lambda plan: span(plan.hours), "the terms below, added up; loading is extra"),
        *(
            line(f"of it {cost_model.WHAT[name]}", share(name), source)
            for name, source in SOURCES.items()
            if any(sum(plan.terms[name]) >= SHOWN * sum(plan.hours) for plan in plans.values())
        ),
        line("tokens a second", lambda plan: span(plan.tokens_a_second), "all cards together"),
        line("money", lambda plan: span(plan.money), "hours x cards x your rate"),
        line("fits", lambda plan: "yes" if plan.fits else "NO", "by the closed form; ask the VRAM planner"),
        line("cheaper", cheaper, "alone, where it fits by the closed form"),
        line(
            "cheaper on another card",
            lambda plan: (
                ", ".join(f"{name} {ratio:.2g}" for name, ratio in plan.break_even.items()) or "none"
            ),
            "if it costs less than so many times your rate",
        ),
    ]


def cheaper(plan: cost_model.Cost) -> str:
    """What would take less time, in words."""
    return "; ".join(change.said for change in plan.cheaper) or "nothing that was tried"


def _between(name: str) -> str:
    low, high = sorted(getattr(step_time, name))
    return f"{low:g} to {high:g}"


SOURCES = {
    "products": f"operations over {_between('PRODUCTS')} of what the card sustains, or bytes read",
    "attention": f"operations over {_between('ATTENTION')} of what the card sustains",
    "activations": f"what a block keeps, {_between('TRAFFIC')} times through memory in each pass",
    "unpacking": f"bytes of the weights over {_between('UNPACKING')} of the bandwidth",
    "launches": f"kernels x {1e6 * step_time.LAUNCH[0]:g} to {1e6 * step_time.LAUNCH[1]:g} microseconds",
    "optimizer": f"bytes of what is trained, {_between('ADAMW')} times over the bandwidth",
    "sending": f"bytes that the cards need of each other over {_between('LINK')} of the link",
}


def figure(model: str, plans: dict[str, cost_model.Cost]):
    """(figure, alt): the range of hours of each plan as a bar, beside it its money and what binds."""
    fig, axes = plots.figure(height=2.4, place=(0.22, 0.21, 0.76, 0.66))
    low, high = min(p.hours[0] for p in plans.values()), max(p.hours[1] for p in plans.values())
    wide = high / low > WIDE
    axes.set_axisbelow(True)
    for place, plan in enumerate(plans.values()):
        start, end = plan.hours
        axes.barh(place, end - start, left=start, height=0.5, color=plots.BLUE if place else plots.ORANGE)
        words = f"money {span(plan.money)}; {plan.binds}"
        axes.annotate(words, (end, place), (6, 0), textcoords="offset points", va="center")
    # Room on the right for the words.
    axes.set(xlim=(low / 1.5, high * (high / low) ** 0.7) if wide else (0, 1.7 * high))
    if wide:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:,g}")
        axes.minorticks_off()
    else:
        axes.locator_params(axis="x", nbins=5)
    axes.set_yticks(range(len(plans)), list(plans))
    axes.set_ylim(len(plans) - 0.4, -0.6)
    axes.set(xlabel="hours, predicted; beside them money and what takes most of the time")
    first = next(iter(plans))
    axes.set_title(f"{model}: {first} takes {span(plans[first].hours)} hours")
    each = "; ".join(
        f"{name} {span(plan.hours)} hours and {span(plan.money)} of money, most of it for {plan.binds}"
        for name, plan in plans.items()
    )
    return fig, f"Bars from the least to the most hours predicted for {model}: {each}."


def explore(
    model: str = "llama-3.1-8b",
    method: str = "qlora",
    rows: int = 5000,
    tokens: int = 512,
    epochs: float = 3.0,
    batch: int = 4,
    packed: bool = False,
    checkpointing: bool = True,
    gpu: str = "l4",
    gpus: int = 1,
    rate: float = 1.0,
) -> Explorer:
    """The estimator with its controls, started at these values. LabError if they are bad."""
    view(model, method, rows, tokens, epochs, batch, packed, checkpointing, gpu, gpus, rate)
    drop, whole, decimal = widgets.Dropdown, widgets.BoundedIntText, widgets.BoundedFloatText
    check = widgets.Checkbox
    controls = {
        "model": drop(options=model_configs.names(), value=model.lower(), description="model"),
        "method": drop(options=METHODS, value=method, description="method"),
        "rows": whole(value=rows, min=1, max=10**8, description="rows"),
        "tokens": whole(value=tokens, min=1, max=131_072, description="tokens a row"),
        "epochs": decimal(value=epochs, min=0.1, max=100, step=0.5, description="epochs"),
        "batch": whole(value=batch, min=1, max=32, description="rows a micro-batch"),
        "packed": check(value=packed, description=f"packed to {PACKED:,} tokens", indent=False),
        "checkpointing": check(value=checkpointing, description="activation checkpointing", indent=False),
        "gpu": drop(options=cards.of_known_speed(), value=cards.find(gpu).name, description="card"),
        "gpus": whole(value=gpus, min=1, max=64, description="cards"),
        "rate": decimal(value=rate, min=0, max=1000, step=0.1, description="your rate an hour and card"),
    }
    return Explorer(view, controls, "Cost estimator")
