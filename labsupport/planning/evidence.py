"""What others measured and published, beside what the planner says of the same runs."""

from __future__ import annotations

import dataclasses
import functools
import math
from dataclasses import dataclass

from labsupport.allocations.streams import GIB
from labsupport.configs import model_configs
from labsupport.core.files import ROOT, read_json
from labsupport.planning import closed_form, footprint
from labsupport.setups.setup import Setup, checked
from labsupport.sizes import gpus

FILE = ROOT / "data" / "published_runs" / "memory.json"  # its README says what each key means
UNVERIFIED = "UNVERIFIED on a GPU"  # begins the line that says so
FIELDS = {field.name for field in dataclasses.fields(Setup)}


@dataclass(frozen=True)
class Compared:
    """A published row and the planner's figures for it, GiB. The ratios are planned over published; None
    where the row does not give that figure. nvidia-smi's is held against needed memory and CUDA's context."""

    row: dict
    allocated: float
    reserved: float
    fits: bool

    @property
    def ratio(self) -> float:
        """Planned over published: of allocated memory if it was published, else of reserved."""
        if self.row.get("allocated_gib"):
            return self.allocated / self.row["allocated_gib"]
        return self.reserved / self.row["reserved_gib"]


@functools.cache
def rows() -> tuple[dict, ...]:
    """The published rows whose very step the planner plans and that give a figure to hold it to."""
    found = read_json(FILE) or []
    return tuple(
        row
        for row in found
        if row.get("comparable") and (row.get("allocated_gib") or row.get("reserved_gib"))
    )


def setup_of(row: dict) -> Setup:
    """The run of a published row, checked."""
    config = model_configs.find(row["model"]) | row.get("config", {})
    fields = {name: value for name, value in row.items() if name in FIELDS - {"config"} and value is not None}
    if "lora_dropout" in row and "dropout" in FIELDS:
        fields["dropout"] = row["lora_dropout"] or 0.0
    return checked(Setup(config, **fields))


def compared(row: dict) -> Compared:
    """Trace a row's run."""
    card = gpus.find(row["card"])
    run = footprint.traced(setup_of(row), card)
    fits = footprint.margin_gib(card, run.needed) >= 0
    return Compared(row, run.peak.bytes / GIB, run.reserved / GIB, fits)


def covering(setup: Setup) -> list[dict]:
    """The rows with a run of this kind: the same trainer, in 4 bits or not, adapters or all weights."""
    return [row for row in rows() if _kind(setup_of(row)) == _kind(setup)]


def _kind(setup: Setup) -> tuple:
    return setup.trainer, setup.four_bit, setup.method == "full"


def nearest(setup: Setup, count: int = 3) -> list[dict]:
    """The rows of its kind, or if there is none of any, whose runs are most like this one: in the bytes of
    the weights, tokens a step, checkpointing and method."""
    chosen = covering(setup) or rows()
    return sorted(chosen, key=lambda row: _distance(setup, setup_of(row)))[:count]


def _distance(one: Setup, other: Setup) -> float:
    sizes = math.log(closed_form.weight_bytes(one) / closed_form.weight_bytes(other))
    tokens = math.log(one.batch * one.length / (other.batch * other.length))
    differ = sum(getattr(one, name) != getattr(other, name) for name in ("method", "checkpointing", "padded"))
    return abs(sizes) + abs(tokens) + differ


def said(setup: Setup) -> str:
    """Whether anyone published a measurement of such a run, in a line."""
    found = covering(setup)
    kind = f"{setup.method} with trainer {setup.trainer}"
    if not found:
        return (
            f"{UNVERIFIED}: no published measurement of {kind} was found to hold this against; on a "
            "processor the traced step is torch.profiler's."
        )
    sources = sorted({row["source"] for row in found})
    return (
        f"Of such runs {len(found)} published measurements are in data/published_runs "
        f"({', '.join(sources)}); `--evidence` shows the nearest beside this planner's figures."
    )


def described(row: dict) -> str:
    """A row's run in a line."""
    extent = "" if row["method"] == "full" else f" r{row['rank']}"
    kept = "checkpointing" if row["checkpointing"] else "no checkpointing"
    rows_of = f"{row['batch']} x {row['length']:,} {'padded' if row['padded'] else 'packed'}"
    return f"{row['model']} {row['method']}{extent}, {rows_of}, {kept}, {row['trainer']}, {row['card']}"


def report(setup: Setup) -> str:
    """The nearest rows, each traced and with its ratio."""
    covered = bool(covering(setup))
    lines = ["nearest published runs" + ("" if covered else ", none of this kind") + ":"]
    for row in nearest(setup):
        found = compared(row)
        which = "allocated" if row.get("allocated_gib") else "reserved"
        published, planned = row[f"{which}_gib"], getattr(found, which)
        lines.append(
            f"  {described(row)}\n"
            f"    {which}: published {published:.2f} GiB, planned {planned:.2f}, ratio {found.ratio:.3f}\n"
            f"    {row['where']}"
        )
    return "\n".join(lines)
