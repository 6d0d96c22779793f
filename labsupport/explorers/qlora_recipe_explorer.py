"""The QLoRA recipe: its peak on a card, and what each of its switches saves or costs, turned alone.

Nothing here was measured on a GPU: memory is by the closed form at once and traced on request, time is the
cost model's. Both are predictions.
"""

from __future__ import annotations

from dataclasses import dataclass

import ipywidgets as widgets

from labsupport.allocations.streams import GIB
from labsupport.configs import model_configs
from labsupport.core import plots, text
from labsupport.cost import switches
from labsupport.cost.step_time import Range, step_time
from labsupport.cost.switches import Recipe
from labsupport.explorers import vram_planner_explorer as vram
from labsupport.planning import closed_form, footprint, prose
from labsupport.sizes import gpus
from labsupport.teaching.explorer_shell import Explorer, View

CLOSED, TRACE = "peak (GiB, closed form)", "peak (GiB, traced)"
BASES = {"4 bits (NF4)": "qlora", "16 bits (bfloat16)": "lora"}
SAME = 0.005  # GiB: below, nothing changed
UNSURE = "trace it"
QUALITY = {
    "method": "measured on the 135M model: notebook 08, what the rounding costs",
    "double_quantization": 'the scales alone: notebook 04, "The scales cost, too: double quantisation"',
    "kbit_preparation": "not measured in this course",
    "checkpointing": "none: the same numbers are computed again",
    "trainer": "none by the head: the same loss. On 4 bits the adapters' format: notebook 08",
    "optimizer": "not measured in this course",
    "batch": "none but rounding: a step sees the same rows",
    "length": "what is longer is cut off",
    "rank": 'notebook 02, "Alpha against the rank"',
}
EFFECT = {
    "method": "the blocks' weights, which stand all the time; in bfloat16 they need no unpacking",
    "double_quantization": "0.37 bits a packed weight",
    "kbit_preparation": "embeddings, norms and head in float32, and all that flows through the blocks",
    "checkpointing": "off: every block keeps its activations; on: each is computed once more",
    "trainer": "a plain loop makes all logits, and has float32 adapters and no autocast besides",
    "batch": "rows a micro-batch x micro-batches; activations go with the rows that are there at once",
    "length": "activations go with the tokens, and so does the time of a step",
    "rank": "adapters, gradients and moments go with it",
}


@dataclass(frozen=True)
class Line:
    """The recipe, or it with one switch turned. switch: "" for the recipe; closed and traced: peak allocated
    in GiB, traced None if not asked for; fits: "yes", "NO" or UNSURE; factor: times the recipe's time."""

    switch: str
    words: str
    recipe: Recipe
    closed: float
    traced: float | None
    fits: str
    factor: Range | None

    @property
    def peak(self) -> float:
        """The better of the two figures."""
        return self.closed if self.traced is None else self.traced


def lines(recipe: Recipe, card: gpus.Card, trace: bool) -> list[Line]:
    """The recipe first, then it with each switch turned alone. LabError if it cannot be planned."""
    setup = recipe.setup()
    found = [line("", "the recipe", recipe, card, trace, None)]
    for flip in switches.flips(recipe):
        factor = switches.time_factor(setup, flip.recipe.setup(), card) if flip.timed else None
        found.append(line(flip.switch, flip.words, flip.recipe, card, trace, factor))
    return found


def line(switch: str, words: str, recipe: Recipe, card: gpus.Card, trace: bool, factor) -> Line:
    setup, usable = recipe.setup(), footprint.usable_gib(card)
    closed = closed_form.peak_bytes(setup) / GIB
    run = switches.traced(recipe, card) if trace else None
    fits = "yes" if (run.fits if run else closed <= usable) else "NO"
    if run is None and vram.is_doubtful(setup, closed, usable):
        fits = UNSURE
    return Line(switch, words, recipe, closed, run and run.peak_gib, fits, factor)


def view(
    model: str = "llama-3.1-8b",
    card: str | float = "l4",
    method: str = "qlora",
    double_quantization: bool = True,
    kbit_preparation: bool = False,
    checkpointing: bool = True,
    trainer: str = "sft",
    optimizer: str = "adamw",
    batch: int = 4,
    accumulation: int = 4,
    length: int = 1024,
    rank: int = 16,
    trace: int = 0,
) -> View:
    """Peak memory of the recipe on a card, and with each switch turned alone; with trace=1 also traced.

    method: "qlora" (base in NF4) or "lora" (in bfloat16); batch in rows a micro-batch, accumulation in
    micro-batches a step, length in tokens a row; card: a name or its GiB, of which no time is known. The
    rest is as in `lab.py plan`. LabError for what cannot be planned.
    """
    fields = dict(locals())  # the arguments
    found, trace = gpus.find(fields.pop("card")), bool(fields.pop("trace"))
    shown = lines(Recipe(**fields), found, trace)
    return View(heading(shown, found), table(shown, found), *figure(shown, found))


def changes(shown: list[Line]) -> list[tuple[Line, float]]:
    """(line, GiB more than the recipe) of every turned switch, the largest change first."""
    first, *turned = shown
    return sorted(((each, each.peak - first.peak) for each in turned), key=lambda pair: -abs(pair[1]))


def heading(shown: list[Line], card: gpus.Card) -> str:
    first, ranked = shown[0], changes(shown)
    words = {"yes": "fits", "NO": "does not fit", UNSURE: "may or may not fit (trace it)"}[first.fits]
    how = "By the closed form" if first.traced is None else "Traced"
    (most, more), (least, less) = ranked[0], ranked[-1]
    return (
        f"{how}, a prediction: at its peak the recipe allocates {text.size(first.peak)} GiB and {words} "
        f"{card.sold_as}. Turned alone, {most.words} moves the peak most ({signed(more)} GiB), "
        f"{least.words} least ({signed(less)})."
    )


def signed(change: float) -> str:
    return f"{change:+,.2f}" if abs(change) >= SAME else "+0.00"


def table(shown: list[Line], card: gpus.Card) -> list[dict]:
    """A row for the recipe, one for each switch, and one for the card."""
    rows = [table_row(each, shown[0], card) for each in shown]
    room = {"": f"room on {card.sold_as}", CLOSED: text.size(footprint.usable_gib(card))}
    less = f"less {footprint.CONTEXT_GIB:g} GiB for CUDA's context, not checked on this card"
    about = ". ".join([less, *prose.about_card(shown[0].recipe.setup(), card)])
    blank = {name: "" for name in rows[0] if name not in room}
    return [*rows, room | blank | {"what it does": about}]


def table_row(each: Line, first: Line, card: gpus.Card) -> dict:
    row = {"": each.words, CLOSED: text.size(each.closed)}
    row["more"] = signed(each.closed - first.closed) if each.switch else ""
    if each.traced is not None:
        row[TRACE] = text.size(each.traced)
        row["more, traced"] = signed(each.traced - first.traced) if each.switch else ""
    return row | {
        "fits": each.fits,
        "time of a step": time_of(each, card),
        "quality": QUALITY.get(each.switch, ""),
        "what it does": effect(each),
    }


def time_of(each: Line, card: gpus.Card) -> str:
    """Seconds of the recipe's step, or how many times as long a step is."""
    if card.sustained_tflops is None or card.bandwidth_gb_s is None:
        return "unknown here"
    if not each.switch:
        return f"{text.span(step_time(each.recipe.setup(), card).seconds)} s"
    return f"x {factor_words(each.factor)}" if each.factor else "not modelled"


def factor_words(factor: Range) -> str:
    """A range of factors to the hundredth, once if both ends are alike."""
    low, high = (f"{value:.2f}" for value in factor)
    return low if low == high else f"{low} to {high}"


def effect(each: Line) -> str:
    """What a switch does, in words; of the optimizer what it keeps, and what of it can be paged out."""
    if each.switch in ("", "optimizer"):
        setup = each.recipe.setup()
        size = text.number(switches.moment_bytes(setup) / 2**20)
        paged = setup.optimizer.startswith("paged")
        found = f"{setup.optimizer} keeps {size} MiB of moments"
        return f"{found}; at most these can be paged out, and they are not counted" if paged else found
    rough = each.switch == "kbit_preparation" and each.traced is None
    return EFFECT[each.switch] + (", which the closed form leaves out: trace it" if rough else "")


def figure(shown: list[Line], card: gpus.Card):
    """(figure, alt): a bar for the recipe, one for each turned switch, the card's room as a line; beside each
    bar what changes, whether it fits, and the time."""
    first, usable = shown[0], footprint.usable_gib(card)
    height = 1.35 + 0.27 * len(shown)  # inches
    fig, axes = plots.figure(height=height, place=(0.23, 0.5 / height, 0.365, 1 - 1.05 / height))
    axes.set_axisbelow(True)
    axes.grid(visible=False, axis="y")
    sizes, places = [each.peak for each in shown], range(len(shown))
    axes.barh(places, sizes, color=[color(each, first) for each in shown], height=0.68)
    axes.axvline(usable, color="black", linewidth=1.5)
    axes.axvline(first.peak, color=plots.BLUE, linewidth=1, linestyle="--")
    axes.set(xlim=(0, 1.05 * max(usable, *sizes)), ylim=(len(shown) - 0.4, -0.6))
    axes.set_xlabel("peak allocated (GiB, predicted); black line: room on the card")
    axes.locator_params(axis="x", nbins=5)
    axes.set_yticks(places, [each.words for each in shown])
    beside = [("GiB", "fits", "time of a step"), *(in_columns(each, first, card) for each in shown)]
    for place, words in enumerate(beside, start=-1):
        for (at, side), word in zip(COLUMNS, words, strict=True):
            axes.text(at, place, word, transform=axes.get_yaxis_transform(), ha=side, va="center")
    most, more = changes(shown)[0]
    name = card.name.upper() if card.name in gpus.CARDS else card.name
    title = (
        f"{first.recipe.model} on {name}: {text.size(first.peak)} of {text.size(usable)} GiB; what moves it "
        f"most: {most.words}, {signed(more)}"
    )
    fig.text(0.01, 1 - 0.16 / height, title, fontsize="large", va="center")
    each = "; ".join(f"{one.words} {', '.join(in_columns(one, first, card))}" for one in shown[1:])
    alt = (
        f"Bars of predicted peak memory for {first.recipe.model} with a line at the {usable:.2f} GiB of "
        f"{card.sold_as}. The recipe: {', '.join(in_columns(first, first, card))}. Each switch turned alone, "
        f"as GiB more or less, whether it fits, and times as long a step: {each}."
    )
    return fig, alt


COLUMNS = ((1.27, "right"), (1.33, "left"), (1.55, "left"))  # beside the bars, in widths of the axes


def color(each: Line, first: Line) -> str:
    """Blue is the recipe; what needs more, less or as much is told by the signs beside the bars as well."""
    if not each.switch:
        return plots.BLUE
    change = each.peak - first.peak
    return plots.GREY if abs(change) < SAME else plots.ORANGE if change > 0 else plots.GREEN


def in_columns(each: Line, first: Line, card: gpus.Card) -> tuple[str, str, str]:
    """(GiB, more or less than the recipe's; whether it fits; the time) as words beside a bar."""
    size = signed(each.peak - first.peak) if each.switch else text.size(each.peak)
    return size, each.fits, time_of(each, card)


def explore(
    model: str = "llama-3.1-8b",
    card: str | float = "l4",
    method: str = "qlora",
    double_quantization: bool = True,
    kbit_preparation: bool = False,
    checkpointing: bool = True,
    trainer: str = "sft",
    optimizer: str = "adamw",
    batch: int = 4,
    accumulation: int = 4,
    length: int = 1024,
    rank: int = 16,
) -> Explorer:
    """The recipe with its switches, started at these values. LabError if they are bad."""
    start = dict(locals())  # the arguments
    view(**start)
    name = gpus.find(card).name
    drop, whole = widgets.Dropdown, widgets.BoundedIntText

    def check(field: str, label: str):
        return widgets.Checkbox(value=start[field], description=label, indent=False)

    controls = {
        "model": drop(options=model_configs.llama_like(), value=model.lower(), description="model"),
        "card": drop(options=vram.with_start(gpus.of_known_speed(), name), value=name, description="card"),
        "method": drop(options=BASES.items(), value=method, description="base weights"),
        "double_quantization": check("double_quantization", "double quantisation"),
        "kbit_preparation": check("kbit_preparation", "prepared for k-bit training"),
        "checkpointing": check("checkpointing", "activation checkpointing"),
        "trainer": drop(options=vram.TRAINERS.items(), value=trainer, description="trainer"),
        "optimizer": drop(options=switches.OPTIMIZERS, value=optimizer, description="optimizer"),
        "batch": whole(value=batch, min=1, max=32, description="rows a micro-batch"),
        "accumulation": whole(value=accumulation, min=1, max=256, description="micro-batches"),
        "length": whole(value=length, min=8, max=131_072, description="tokens a row"),
        "rank": whole(value=rank, min=1, max=1024, description="rank"),
        "trace": widgets.Button(description="Trace every switch (takes a while)"),
    }
    return Explorer(vram.remembering_traces(view), controls, "QLoRA recipe")
