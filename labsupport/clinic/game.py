"""The broken-run clinic as a learner plays it: look at a run, pay for probes, name the cause.

    clinic.case(3)                          what a practitioner sees
    clinic.case(3).probe("tokens")          what a probe answers; it costs what the case's table says
    clinic.case(3).name("eos-not-learned")  right, or $1 and what speaks against it
    clinic.bill()                           what was spent, case by case
    clinic.leaderboard("Ana")               a file for whoever collects them

The runs are recorded in data/experiments/clinic.json. It is open: who reads the causes there has no game.
"""

from __future__ import annotations

import collections
import functools
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from labsupport.clinic import accounts, explaining, showing
from labsupport.clinic import leaderboard as board
from labsupport.clinic.explaining import CAUSES
from labsupport.clinic.leaderboard import dollars
from labsupport.clinic.showing import Page
from labsupport.core.files import LabError, nearest_first, short
from labsupport.core.numbers import shown, whole
from labsupport.core.tables import Table
from labsupport.evaluation import experiments

# Cents for naming a wrong cause, as much as five evaluations: going through the list by guessing is dearer
# than looking, and who is left with two causes may still risk it before a retraining for $3.
WRONG = 100
EDITION_LETTERS = 12


# ---------------------------------------------------------------- the record


@functools.cache
def recorded() -> list[dict]:
    """The record's cells in the order of the cases, {"cell", "metrics"}: fixed, and by no kind or seed."""
    cells = experiments.published("clinic")["cells"]
    plain = [{"cell": cell["cell"], "metrics": cell["metrics"]} for cell in cells]
    return sorted(plain, key=lambda cell: hashed(cell["cell"]))


def hashed(thing) -> str:
    return hashlib.sha256(json.dumps(thing, sort_keys=True).encode()).hexdigest()


@functools.cache
def edition() -> str:
    """Which cases these are: a hash of the record. Bills of another one cannot be compared."""
    return hashed(recorded())[:EDITION_LETTERS]


def price(probe: str) -> int:
    """Of a probe, in cents."""
    from labsupport.broken_runs import probing  # with torch

    return round(100 * probing.PROBES[probe][0]) if probe in probing.PROBES else 0


# ---------------------------------------------------------------- a case


@dataclass(frozen=True)
class Account:
    """What was done in a case so far. probes, named: in order; right: whether the cause was named."""

    probes: list[str]
    named: list[str]
    right: bool

    @property
    def wrong(self) -> int:
        return len(self.named) - self.right

    @property
    def cents(self) -> int:
        return sum(map(price, self.probes)) + WRONG * self.wrong


@dataclass(frozen=True, repr=False)
class Case:
    """A run to diagnose, which a notebook shows. `.probe(name)` asks, `.name(cause)` diagnoses, `.bill()`
    says what was spent. Nothing of it tells the cause."""

    number: int

    @property
    def account(self) -> Account:
        """What was done in it so far."""
        return self._account()[0]

    def _account(self) -> tuple[Account, str]:
        """The same, and "" or a sentence about a bill that was set aside."""
        cases, note = accounts.load(edition())
        return account(self.number, cases), note

    def probe(self, name: str) -> Page:
        """What a probe answers. It is paid for once, and free after the cause was named. LabError lists the
        probes there are."""
        from labsupport.broken_runs import probing

        metrics = recorded()[self.number - 1]["metrics"]
        if not isinstance(name, str) or name not in metrics["probes"]:
            known = nearest_first(str(name), metrics["probes"])
            raise LabError(f"Case {self.number} has no probe {shown(name)}. There are: {known}.")
        before, note = self._account()
        if not before.right:
            note = accounts.record(edition(), str(self.number), "probes", name) or note
        paid = 0 if before.right or name in before.probes else price(name)
        parts = showing.answer(name, metrics["probes"][name], metrics["view"])
        heading = f"Case {self.number}, {name}: {probing.PROBES[name][1]}."
        return Page(heading, (*parts, *self._spent(paid), *filter(None, [note])))

    def name(self, cause: str) -> Page:
        """Name the cause of what is wrong: an explanation if it is right, else one line on what speaks
        against it, for $1, once. LabError lists the causes there are."""
        if not isinstance(cause, str) or cause not in CAUSES:
            known = nearest_first(str(cause), CAUSES)
            raise LabError(f"Unknown cause {shown(cause)}. There are: {known}.")
        before, note = self._account()
        if not before.right:
            note = accounts.record(edition(), str(self.number), "named", cause) or note
        cell = recorded()[self.number - 1]
        kind, title = cell["cell"]["kind"], explaining.title(cause)
        if cause == kind:
            heading = f"Case {self.number}, right: {title}."
            return Page(
                heading, (*explained(kind, cell["metrics"]["case"], self.account), *filter(None, [note]))
            )
        paid = 0 if before.right or cause in before.named else WRONG
        why = explaining.against(cause, kind, cell["metrics"]["view"], cell["metrics"]["probes"])
        heading = f"Case {self.number}, not right: {title}."
        return Page(heading, (why, *self._spent(paid), *filter(None, [note])))

    def bill(self) -> str:
        """What was spent on this case, in a sentence."""
        done = self.account
        asked = f"{len(done.probes)} {'probe' if len(done.probes) == 1 else 'probes'}"
        return f"{dollars(done.cents)} spent on case {self.number} ({asked}, {done.wrong} wrongly named)."

    def _spent(self, now: int) -> list[str]:
        return [f"This cost {dollars(now)}. {self.bill()}" if now else self.bill()]

    def page(self) -> Page:
        """Everything that is shown of the case without asking."""
        metrics, (done, note) = recorded()[self.number - 1]["metrics"], self._account()
        view = metrics["view"]
        heading = f"Case {self.number} of {len(recorded())}: {view['base']}, fine-tuned on {view['task']}."
        state = "Its cause is named. " if done.right else 'Name the cause with .name("..."), see causes(). '
        probes = priced(list(metrics["probes"]), done.probes)
        return Page(heading, (*showing.run(view), probes, state + self.bill(), *filter(None, [note])))

    def _repr_html_(self) -> str:
        return self.page()._repr_html_()

    def __repr__(self) -> str:
        return repr(self.page())


def money(cents: int) -> str:
    return dollars(cents) if cents else "nothing"


def explained(kind: str, case: dict, done: Account) -> list:
    """What was wrong with a run, how to mend it, and how it could have been seen for the least money."""
    cause = CAUSES[kind]
    path = " and ".join(f"`{probe}`" for probe in cause.path) or "what is shown without a probe"
    least, mine = money(sum(map(price, cause.path))), ", ".join(done.probes) or "no probe"
    return [
        explaining.told(kind, case),
        f"To mend it: {explaining.fix(kind)}",
        f"The cheapest path: {path}, for {least}: {cause.sees}.",
        f"Your path: {mine}, {done.wrong} wrongly named, for {money(done.cents)}.",
    ]


def priced(probes: list[str], asked: list[str]) -> showing.Folded:
    """The probes of a case with price and what they show; those asked for are ticked."""
    from labsupport.broken_runs import probing

    rows, counts = [], collections.Counter()
    for name in probes:
        cost = dollars(price(name)) if price(name) else "free"
        rows.append([name, cost, probing.PROBES[name][1], "✓" if name in asked else ""])
        counts[cost] += 1
    title = ", ".join(
        f"{count} {cost}" if cost == "free" else f"{count} for {cost}" for cost, count in counts.items()
    )
    table = Table(["probe", "price", "what it shows", "asked"], rows)
    return showing.Folded(f'What can be asked with .probe("..."): {title}', table, long=False)


# ---------------------------------------------------------------- what a learner calls


def case(number: int) -> Case:
    """The case of that number, from 1. LabError for a number there is none of, and without the record."""
    return Case(whole(number, "The case's number", 1, len(recorded())))


def causes() -> Table:
    """What can be wrong: the ids to name, with their titles, in the order of the alphabet."""
    return Table(["cause", "what it is"], [[name, explaining.title(name)] for name in sorted(CAUSES)])


def account(number: int, cases: dict[str, dict]) -> Account:
    """What the entries of a bill say of a case."""
    entry = cases.get(str(number), {"probes": [], "named": []})
    right = recorded()[number - 1]["cell"]["kind"] in entry["named"]
    return Account(entry["probes"], entry["named"], right)


def bill() -> Page:
    """What was spent, case by case, and in all."""
    cases, note = accounts.load(edition())
    rows, total, right = [], 0, 0
    for number in range(1, len(recorded()) + 1):
        done = account(number, cases)
        total, right = total + done.cents, right + done.right
        state = "cause named" if done.right else "open" if done.probes or done.named else ""
        rows.append([str(number), state, ", ".join(done.probes), str(done.wrong), dollars(done.cents)])
    headings = ["case", "state", "probes", "wrongly named", "spent"]
    caption = f"A wrongly named cause costs {dollars(WRONG)}; what is asked after the right one is free."
    folder = short(accounts.path().parent)
    where = (
        ""
        if accounts.kept()
        else f"Kept until this kernel ends; one that starts in {folder} keeps it longer."
    )
    heading = f"{dollars(total)} spent, {right} of {len(rows)} causes named."
    return Page(heading, (Table(headings, rows, caption), *filter(None, [note, where])))


def leaderboard(name: str) -> Path:
    """Write `clinic_NAME.json` beside the progress file, for whoever collects them; returns its path.

    LabError for a name that makes no file name, and while nothing was asked yet.
    """
    board.check_name(name)
    cases, _note = accounts.load(edition())
    done = {number: account(int(number), cases) for number in cases if 1 <= int(number) <= len(recorded())}
    if not done:
        raise LabError("No case was opened yet: ask a probe or name a cause first.")
    entries = {
        number: {"cents": each.cents, "right": each.right, "wrong": each.wrong, "probes": each.probes}
        for number, each in done.items()
    }
    return board.write(accounts.path().parent, name, edition(), len(recorded()), entries)
