"""DoRA's decomposition: change lengths and directions of rows, and see what LoRA and DoRA can reach."""

from __future__ import annotations

import functools

import ipywidgets as widgets
import torch
from safetensors import SafetensorError, safe_open

from labsupport.core import files, plots
from labsupport.core.files import LabError
from labsupport.models import dora_reach, tiny_base
from labsupport.models.dora_reach import Change
from labsupport.sizes import counting
from labsupport.teaching.explorer_shell import Explorer, View

NAME = "model.layers.2.self_attn.v_proj.weight"
OUT, IN = 64, 192
ROWS = torch.tensor([[3.0, 4.0], [-4.0, -1.0], [1.0, -3.0]], dtype=torch.float64)  # the plane's
LORA, LENGTHS, DORA = "LoRA (A and B)", "lengths alone (m)", "DoRA (m, A and B)"
COLORS = {LORA: plots.ORANGE, LENGTHS: plots.GREEN, DORA: plots.BLUE}
MOVED, SCALED = "moved by BA", "brought to length m"  # the plane's arrows
LARGEST, STEEPEST = 3.0, 60.0  # times, degrees
DRAWN = (
    0,
    1,
    2,
    3,
    4,
    6,
    8,
    12,
    16,
    24,
    32,
    48,
    64,
)  # DoRA's ranks in the figure, beside the two that are asked for
SAME = 5e-4  # both are printed alike


@functools.cache
def real_weight() -> torch.Tensor:
    """The matrix (64, 192) of the course's small base, in float64. LabError if it cannot be read."""
    file = tiny_base.FOLDER / "model.safetensors"
    try:
        with safe_open(file, "pt") as tensors:
            return tensors.get_tensor(NAME).double()
    except (OSError, SafetensorError) as error:
        raise LabError(
            f"{files.short(file)} cannot be read ({files.first_line(error)}): get it from the repository."
        ) from error


@functools.lru_cache(maxsize=32)
def real_change(longer: float, degrees: float, turn_rank: int, keep: bool) -> Change:
    """The real weight's change: half of its rows, by lot, get longer, the others shorter; all turn."""
    lots = torch.Generator().manual_seed(0)
    half = torch.randperm(OUT, generator=lots) < OUT // 2
    # The same lots whatever the rank, so that turning that knob changes nothing else.
    B, A = (torch.randn(OUT, n, generator=lots, dtype=torch.float64) for n in (OUT, IN))
    directions = B[:, :turn_rank] @ A[:turn_rank]
    scales = torch.where(half, longer, 1 / longer).double()
    return dora_reach.make_change(real_weight(), scales, degrees, directions, keep)


@functools.lru_cache(maxsize=512)
def dora_miss(longer: float, degrees: float, turn_rank: int, keep: bool, rank: int) -> float:
    """What DoRA's fit at this rank leaves of the real weight's change, as a share of it."""
    change = real_change(longer, degrees, turn_rank, keep)
    factors, low = dora_reach.dora_fit(change, rank)
    return dora_reach.miss(change, factors[:, None] * change.weight + low)


def plane_change(longer: float, degrees: float, keep: bool) -> Change:
    """The same of three rows in the plane, which turn along one common direction, (1, -1)."""
    scales = torch.tensor([longer, 1 / longer, longer], dtype=torch.float64)
    directions = torch.tensor([[1.0, -1.0]], dtype=torch.float64).expand(3, 2)
    return dora_reach.make_change(ROWS, scales, degrees, directions, keep)


def plane_path(change: Change, trained: str) -> list[torch.Tensor]:
    """Where the plane's rows go, step by step, and at the end the nearest that rank 1 reaches."""
    weight = change.weight
    if trained == LORA:
        return [weight, weight + dora_reach.best_low_rank(change.target - weight, 1)]
    if trained == LENGTHS:
        return [weight, dora_reach.row_factors(weight, change.target)[:, None] * weight]
    return [weight, change.turned, change.target]  # Δ first, then each row to its length in m


def view(
    trained: str = DORA,
    longer: float = 1.5,
    degrees: float = 16.0,
    turn_rank: int = 4,
    keep: bool = True,
    rank: int = 4,
) -> View:
    """What of a change can be reached: in the plane, and of a real weight over the rank.

    trained: LORA, LENGTHS or DORA, what the plane shows. longer: half of the rows get so many times as long,
    the others as much shorter, 1 to 3. degrees: every row's turn, 0 to 60. turn_rank: 1 to 64, of the update
    that turns the real rows. keep: whether turning leaves lengths as they are. rank: LoRA's and DoRA's, 1 to
    64. LabError for anything else, and for a change of nothing.
    """
    if trained not in COLORS:
        raise LabError(f"Unknown {trained!r}. What trains is one of: {', '.join(COLORS)}.")
    for what, value, low, high in (("length factor", longer, 1, LARGEST), ("turn", degrees, 0, STEEPEST)):
        if not low <= value <= high:
            raise LabError(f"The {what} is {value!r}: choose {low} to {high:g}.")
    for each in (turn_rank, rank):
        counting.check_rank(each, IN, OUT, NAME)
    asked = (float(longer), float(degrees), turn_rank, bool(keep))
    change, plane = real_change(*asked), plane_change(longer, degrees, keep)
    lora = dora_reach.lora_misses(change)
    dora = {each: dora_miss(*asked, each) for each in sorted({*DRAWN, turn_rank, rank})}
    size = ((change.target - change.weight).norm() / change.weight.norm()).item()
    enough = next(each for each, left in enumerate(lora) if left <= dora[rank] + SAME)
    reached = f"LoRA leaves {percent(lora[rank])} of the change, DoRA {bound(dora[rank])}"
    heading = (
        f"The change is {100 * size:.0f} % of the weight's size. At rank {rank}, {reached}; "
        f"{as_near(enough, rank)}."
    )
    missing = {each: dora_reach.miss(plane, plane_path(plane, each)[-1]) for each in COLORS}
    alt = (
        f"Left, three rows of two numbers before and after, with what {trained} reaches at rank 1: "
        f"{percent(missing[trained])} of their change is left. Right, what is left of a real weight's change "
        f"over the numbers trained, for LoRA and for DoRA. {heading}"
    )
    table = rows(rank, enough, lora, dora, missing)
    return View(heading, table, figure(plane, trained, rank, lora, dora, f"Rank {rank}: {reached}"), alt)


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def bound(left: float) -> str:
    """DoRA's share in words: below the rank of the turn its fit need not be the best there is."""
    return percent(left) if left < SAME else f"{percent(left)} or less"


def as_near(enough: int, rank: int) -> str:
    if enough <= rank:
        return "the lengths buy nothing here"
    return f"LoRA comes as near from rank {enough} on"


def rows(rank: int, enough: int, lora: list[float], dora: dict[int, float], missing: dict) -> list[dict]:
    """The table: what trains -> how many numbers, and what is left of both changes."""

    def row(name: str, trained: int, left: float, plane: str = "") -> dict:
        return {"": name, "numbers trained": f"{trained:,}", "left": percent(left), "left, plane": plane}

    at = counting.lora_parameters
    found = [row(f"LoRA, rank {rank}", at(IN, OUT, rank), lora[rank], percent(missing[LORA]))]
    found += [
        row(f"LoRA, rank {each}", at(IN, OUT, each), lora[each])
        for each in sorted({min(rank + 1, OUT), enough} - {0, rank})
    ]
    found.append(row("lengths alone", OUT, dora[0], percent(missing[LENGTHS])))
    found.append(row(f"DoRA, rank {rank}", at(IN, OUT, rank) + OUT, dora[rank], percent(missing[DORA])))
    return found


def figure(plane: Change, trained: str, rank: int, lora: list[float], dora: dict[int, float], title: str):
    fig, axes = plots.figure(height=3.3, place=(0.53, 0.16, 0.45, 0.72))
    left = fig.add_axes((0.08, 0.16, 0.335, 0.72))
    draw_plane(left, plane, trained)
    draw_ranks(axes, trained, rank, lora, dora)
    fig.text(0.01, 0.94, title, fontsize="large")
    return fig


def draw_plane(axes, change: Change, trained: str) -> None:
    path = plane_path(change, trained)
    reach = 1.15 * max(each.abs().max().item() for each in (*path, change.target))
    flat = {"angles": "xy", "scale_units": "xy", "scale": 1, "width": 0.012}
    zero = torch.zeros(len(ROWS))
    axes.quiver(zero, zero, *ROWS.T, color=plots.GREY, alpha=0.5, label="before", **flat)
    steps = [(MOVED, plots.ORANGE), (SCALED, plots.GREEN)][trained == LENGTHS :]
    for (word, color), start, end in zip(steps, path, path[1:], strict=False):
        axes.quiver(*start.T, *(end - start).T, color=color, label=word, zorder=3, **flat)
    axes.plot(*change.target.T, "o", color="black", fillstyle="none", markersize=9, label="wanted")
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), xlabel="first number of a row, rank 1")
    axes.set_ylabel("second number", labelpad=0)
    axes.locator_params(nbins=4)
    axes.legend(loc="upper left", fontsize="small", borderpad=0, handlelength=1)


def draw_ranks(axes, trained: str, rank: int, lora: list[float], dora: dict[int, float]) -> None:
    """What is left, in percent, over the numbers trained: DoRA's rank has `out` more."""
    more = OUT / (OUT + IN)
    lines = {
        LORA: ({float(each): left for each, left in enumerate(lora)}, "-", "LoRA"),
        DORA: ({each + more: left for each, left in dora.items()}, "--", "DoRA"),
    }
    for name, (points, style, label) in lines.items():
        places = torch.tensor([*points]).add(1).log2()
        axes.plot(places, [100 * left for left in points.values()], style, color=COLORS[name], label=label)
    spots = {LORA: (rank, lora[rank]), LENGTHS: (more, dora[0]), DORA: (rank + more, dora[rank])}
    place, left = spots[trained]
    label = trained if trained == LENGTHS else None  # the others are on their line
    axes.plot(torch.tensor(1.0 + place).log2(), 100 * left, "o", color=COLORS[trained], label=label)
    ticks = (0, 1, 4, 16, 64)
    axes.set_xticks(torch.tensor(ticks).add(1).log2(), [f"{each * (OUT + IN):,}" for each in ticks])
    axes.set(xlabel=f"numbers trained ({OUT + IN} a rank, {OUT} lengths)", ylabel="left of the change (%)")
    axes.set_ylim(-3, 103)
    axes.legend(loc="upper right", fontsize="small", borderpad=0)


def explore(
    trained: str = DORA,
    longer: float = 1.5,
    degrees: float = 16.0,
    turn_rank: int = 4,
    keep: bool = True,
    rank: int = 4,
) -> Explorer:
    """The view with controls, starting at the given values. LabError for values not offered."""
    view(trained, longer, degrees, turn_rank, keep, rank)
    real, whole = widgets.BoundedFloatText, widgets.BoundedIntText
    controls = {
        "trained": widgets.Dropdown(options=list(COLORS), value=trained, description="what trains"),
        "longer": real(value=longer, min=1, max=LARGEST, step=0.1, description="lengths times or divided by"),
        "degrees": real(value=degrees, min=0, max=STEEPEST, step=4, description="turn (degrees)"),
        "turn_rank": whole(value=turn_rank, min=1, max=OUT, description="rank of the turn"),
        "keep": widgets.Checkbox(value=keep, description="turning keeps lengths", indent=False),
        "rank": whole(value=rank, min=1, max=OUT, description="rank of LoRA and DoRA"),
    }
    return Explorer(view, controls, "DoRA's decomposition")
