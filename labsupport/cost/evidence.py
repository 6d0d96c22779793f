"""Times that others published, beside what the cost model says of the same runs."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass

from labsupport.configs import model_configs
from labsupport.core.files import DATA, LabError, short
from labsupport.cost.step_time import StepTime, step_time
from labsupport.setups.setup import Setup, checked
from labsupport.sizes import gpus

FILE = DATA / "published_runs" / "times.json"  # the README beside it says what each key means
ROLES = ("fitted", "held out")
FIELDS = {field.name for field in dataclasses.fields(Setup)} - {"config", "method"}


@dataclass(frozen=True)
class Row:
    """A published run. seconds: of an optimizer step; role: "fitted" where it set the model's parameters,
    "held out" where it was kept from that."""

    source: str
    where: str
    role: str
    setup: Setup
    card: gpus.Card
    cards: int
    sharded: bool
    seconds: float
    note: str


def rows(role: str | None = None) -> list[Row]:
    """The published times, those of a role alone if one is given. LabError for another role."""
    if role not in (None, *ROLES):
        raise LabError(f"There is no role {role!r} in {short(FILE)}: {' or '.join(ROLES)}.")
    found = map(read, json.loads(FILE.read_text(encoding="utf-8")))
    return [row for row in found if role in (None, row.role)]


def read(run: dict) -> Row:
    """The row of one object in the file."""
    config = model_configs.find(run["model"]) | run.get("config", {})
    options = {name: value for name, value in run.items() if name in FIELDS}
    setup = checked(Setup(config, run["method"], **options))
    tokens = setup.batch * setup.length * setup.accumulation
    value, cards = run["value"], run["cards"]
    seconds = {
        "tokens a second and card": tokens / value,
        "tokens a second": tokens * cards / value,
        "seconds a step": value,
        "seconds": value / run.get("steps", 1),
    }[run["unit"]]
    return Row(
        run["source"],
        run["where"],
        run["role"],
        setup,
        gpus.find(run["card"]),
        cards,
        run.get("sharded", False),
        seconds,
        run.get("note", ""),
    )


def held(role: str | None = None) -> list[tuple[Row, StepTime]]:
    """Each row with the model's time for its step."""
    return [(row, step_time(row.setup, row.card, row.cards, row.sharded)) for row in rows(role)]


def inside(row: Row, found: StepTime) -> bool:
    """Whether the published time lies in the model's range."""
    fast, slow = found.seconds
    return fast <= row.seconds <= slow


def share_inside(role: str | None = None) -> tuple[int, int]:
    """(rows inside, rows)."""
    each = [inside(*pair) for pair in held(role)]
    return sum(each), len(each)


def short_name(row: Row) -> str:
    """What of a row's place tells it from its neighbours: the end of the sentence, or the file's name."""
    return row.where.rsplit(": ")[-1].rsplit("/")[-1]


def table(role: str | None = None) -> list[dict]:
    """A line for each row: what ran where, seconds a step published and by the model, and what binds."""
    lines = []
    for row, found in held(role):
        fast, slow = found.seconds
        lines.append(
            {
                "run": f"{row.source}: {short_name(row)}",
                "card": f"{row.cards} x {row.card.name}",
                "tokens a step": found.tokens,
                "published": row.seconds,
                "fast": fast,
                "slow": slow,
                "inside": inside(row, found),
                "binds": found.binds,
                "role": row.role,
            }
        )
    return lines


def report() -> str:
    """The table as text, and how many of those held out lie inside."""
    lines = [
        f"{'published run':66} {'card':12}{'published':>10}{'fast':>9}{'slow':>9}  seconds a step; binds"
    ]
    for line in table():
        run = f"{line['run'][:58]:58} {'' if line['role'] == 'fitted' else 'held'}"
        seconds = "".join(f"{line[name]:9.3f}" for name in ("fast", "slow"))
        where = "inside" if line["inside"] else "OUTSIDE"
        lines.append(
            f"{run:66} {line['card']:12}{line['published']:10.3f}{seconds}  {where}; {line['binds']}"
        )
    inside, count = share_inside("held out")
    return "\n".join([*lines, "", f"Of {count} runs held out, which set no parameter, {inside} lie inside."])
