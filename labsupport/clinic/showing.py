"""How the clinic shows a run and the answers of probes: as HTML in a notebook, as lines in a terminal."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass

from labsupport.core import plots
from labsupport.core.tables import Table

MEASURES = {
    "rows": "rows asked",
    "exact": "replies all right",
    "parts": "parts right",
    "valid": "of the right form",
    "ended": "ended by themselves",
    "loss": "loss of the right answers",
}
PARTS = {"tickets": "fields right", "facts": "symbols in place"}
LONGEST = 160  # signs of a reply that are shown
MARK = re.compile(r"<\|.*\|>")  # a token of the format


@dataclass(frozen=True, repr=False)
class Page:
    """A heading and below it sentences, tables, pictures and token views, one after the other."""

    heading: str
    parts: tuple

    def _repr_html_(self) -> str:
        text = f"<p><b>{html.escape(self.heading)}</b></p>" + "".join(map(as_html, self.parts))
        return text.replace(
            "$", "<span>$</span>"
        )  # JupyterLab would set what stands between two as a formula

    def __repr__(self) -> str:
        return "\n\n".join([self.heading, *(str(part) for part in self.parts)])


def as_html(part) -> str:
    """Sentences with `names` as code, and whatever shows itself."""
    if isinstance(part, str):
        text = re.sub("`([^`]+)`", r"<code>\1</code>", html.escape(part))
        return f"<p>{text}</p>"
    return part._repr_html_()


@dataclass(frozen=True, repr=False)
class Picture:
    """A figure; in a terminal what it shows, in a sentence."""

    figure: object
    alt: str

    def _repr_html_(self) -> str:
        return plots.show(self.figure, self.alt).data

    def __repr__(self) -> str:
        return self.alt


@dataclass(frozen=True, repr=False)
class Folded:
    """What is looked at now and then: folded away in a notebook; in a terminal left out if it is long."""

    title: str
    part: object
    long: bool = True

    def _repr_html_(self) -> str:
        return f"<details><summary>{html.escape(self.title)}</summary>{as_html(self.part)}</details>"

    def __repr__(self) -> str:
        return f"({self.title}: shown in a notebook)" if self.long else f"{self.title}\n{self.part}"


@dataclass(frozen=True, repr=False)
class Beside:
    """Tables next to each other where there is room."""

    parts: tuple

    def _repr_html_(self) -> str:
        boxes = "".join(f"<div>{as_html(part)}</div>" for part in self.parts)
        style = "display: flex; flex-flow: row wrap; gap: 8px 40px; align-items: flex-start"
        return f'<div style="{style}">{boxes}</div>'

    def __repr__(self) -> str:
        return "\n\n".join(map(str, self.parts))


@dataclass(frozen=True, repr=False)
class Replies:
    """Messages, the expected answers and the replies: a row each; in a terminal three lines."""

    found: list

    def rows(self) -> list[tuple[str, str, str]]:
        rows = []
        for each in self.found:
            sign = "✓" if each["reply"] == each["expected"] else "✗"
            end = "" if each["ended"] else " [… did not end by itself]"
            reply = shortened(" ".join(each["reply"].split())) or "(nothing)"
            rows.append((" ".join(each["prompt"].split()), each["expected"], f"{sign} {reply}{end}"))
        return rows

    def _repr_html_(self) -> str:
        table = Table(["message", "expected", "reply"], self.rows(), "Replies of the evaluation")
        # a broken run writes long strings without a blank, which would push the table out of the page
        return f'<div style="overflow-wrap: anywhere">{table._repr_html_()}</div>'

    def __repr__(self) -> str:
        lines = [
            f"message   {message}\nexpected  {due}\nreply     {reply}" for message, due, reply in self.rows()
        ]
        return "\n".join(["Replies of the evaluation", *lines])


def shortened(text: str) -> str:
    """A text of at most LONGEST signs, and how many more there were."""
    more = len(text) - LONGEST
    return f"{text[:LONGEST]} [… and {more} signs more]" if more > 0 else text


@dataclass(frozen=True, repr=False)
class TokenRows:
    """Rows token by token, learned ones marked, with what the marks mean said once."""

    views: list

    def _repr_html_(self) -> str:
        from labsupport.chat_formats import token_view

        parts = [f"<p>{token_view.legend()}</p>"]
        for number, view in enumerate(self.views, start=1):
            tokens = "".join(map(token_view.as_html, view.tokens))
            parts.append(f"<p><b>Row {number}</b>: {view.heading}.</p>")
            parts.append(f'<div style="{token_view.BLOCK}; margin-bottom: 8px">{tokens}</div>')
        return "".join(parts)

    def __repr__(self) -> str:
        return "\n\n".join(f"Row {number}: {view!r}" for number, view in enumerate(self.views, start=1))


# ---------------------------------------------------------------- a run


def run(view: dict) -> list:
    """What a practitioner has before asking anything: curve, settings and counts, figures, replies, log."""
    names = {"schedule": "lr_scheduler_type", "batch": "rows a step"}
    settings = {names.get(name, name): value for name, value in view["settings"].items()}
    counts = {name.replace("_", " "): value for name, value in view["counts"].items()}
    return [
        curves(view["log"], view["eval_log"]),
        Beside(
            (
                Table(["setting", "value"], list((settings | counts).items()), "How it was trained"),
                figures({"evaluation": view["evaluation"]}, view["task"]),
            )
        ),
        Replies(view["replies"]),
        Folded(f"The log of {len(view['log'])} entries", log(view["log"])),
        Folded(f"The {len(view['eval_log'])} evaluations on the way", log(view["eval_log"])),
    ]


def curves(steps: list[dict], evaluations: list[dict]) -> Picture:
    """Loss of the training and of the evaluation over steps."""
    fig, axes = plots.figure(height=2.6)
    said, title = [], []
    for entries, key, name, look in (
        (steps, "loss", "training", {"color": plots.BLUE}),
        (evaluations, "eval_loss", "evaluation", {"color": plots.ORANGE, "marker": "o", "linestyle": "--"}),
    ):
        if entries:
            values = [entry[key] for entry in entries]
            axes.plot([entry["step"] for entry in entries], values, label=name, **look)
            title.append(f"{name} {values[0]:.2g} to {values[-1]:.2g}")
            said.append(f"{name} loss from {values[0]:.3g} to {values[-1]:.3g}, lowest {min(values):.3g}")
    axes.set(xlabel="step", ylabel="loss (nats a token)", ylim=(0, None))
    axes.set_title(f"Loss: {', '.join(title)}")
    axes.legend()
    return Picture(fig, f"Loss over {steps[-1]['step']:g} steps: {'; '.join(said)}.")


def log(entries: list[dict]) -> Table:
    """A trainer's log as a table."""
    names = list(dict.fromkeys(name for entry in entries for name in entry))
    return Table(names, [[entry.get(name, "") for name in names] for entry in entries])


def figures(columns: dict[str, dict], task: str) -> Table:
    """What evaluations found, a column each: shares in percent, the loss in nats a token."""
    rows = []
    for name, said in (MEASURES | {"parts": PARTS[task]}).items():
        values = [found[name] for found in columns.values()]
        if name in ("exact", "parts", "valid", "ended"):
            values = [f"{100 * value:.0f} %" for value in values]
        rows.append([said, *values])
    return Table(["measure", *columns], rows, "What the evaluation found")


# ---------------------------------------------------------------- what a probe answers


def answer(name: str, found: dict, view: dict) -> list:
    """What a probe found, in parts of a page; of an evaluation or a retraining beside the run's own."""
    if name in READINGS:
        return READINGS[name](found)
    if found.get("unchanged"):
        return ["The run is already as this would change it: training it again gives the same."]
    if "log" in found:
        columns = {"this run": view["evaluation"], "retrained": found["evaluation"]}
        return [curves(found["log"], found["eval_log"]), figures(columns, view["task"])]
    columns = {"as it was": view["evaluation"], "asked so": found}
    return [figures(columns, view["task"]), Replies(found["replies"])]


def tokens(found: dict) -> list:
    """Rows as the trainer feeds them, learned tokens marked."""
    from labsupport.chat_formats.token_view import Token, TokenView
    from labsupport.models.chat import IGNORED

    def of(text: str, learned: int) -> Token:
        return Token(text, 0, 0 if learned else IGNORED, bool(MARK.fullmatch(text)))

    rows = [
        TokenView([of(*pair) for pair in zip(row["tokens"], row["learned"], strict=True)])
        for row in found["rows"]
    ]
    share = f"{100 * found['learned_share']:.0f} % of all their tokens are learned."
    return [f"Of {found['given']} rows the trainer feeds {found['kept']}; {share}", TokenRows(rows)]


def settings(found: dict) -> list:
    """Arguments and adapter, but the seed, which only says where the run stands among the recorded ones."""
    captions = {"arguments": "What SFTConfig was given", "adapter": "What adapter_config.json says"}
    return [
        Table(
            ["setting", "value"],
            [[name, plain(value)] for name, value in found[key].items() if name != "seed"],
            caption,
        )
        for key, caption in captions.items()
    ]


def plain(value):
    """A setting as one cell; numbers exact, where a table would round them."""
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def adapter(found: dict) -> list:
    """The norms by kind of layer, and all of them."""
    by_kind: dict[str, list] = {}
    for name, norms in found["norms"].items():
        by_kind.setdefault(name.rpartition(".")[2], []).append(norms)
    rows = []
    for kind, norms in by_kind.items():
        a, b = zip(*norms, strict=True)
        rows.append([kind, str(len(norms)), *(f"{value:.3g}" for value in (min(a), max(a), min(b), max(b)))])
    headings = ["layer", "how many", "A, smallest", "A, largest", "B, smallest", "B, largest"]
    every = [[name, f"{a:.4g}", f"{b:.4g}"] for name, (a, b) in found["norms"].items()]
    return [
        Table(headings, rows, "Norms of the adapter's matrices"),
        Folded(f"All {len(every)} layers", Table(["layer", "A", "B"], every)),
    ]


def copies(found: dict) -> list:
    said = f"{found['found']} of {found['of']} evaluation rows have a near copy in the training rows."
    if not found["examples"]:
        return [said]
    pairs = [[" ".join(text.split()) for text in pair] for pair in found["examples"]]
    return [said, Table(["evaluation", "training"], pairs, "Pairs of messages")]


READINGS = {"tokens": tokens, "settings": settings, "adapter": adapter, "copies": copies}
