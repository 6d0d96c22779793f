"""What the clinic says of a cause: what it did in the run, the cheapest way to see it, and what speaks
against one that was named wrongly. Title and fix are those of `lab.py diagnose`.
"""

from __future__ import annotations

from dataclasses import dataclass

from labsupport.broken_runs import kinds
from labsupport.run_folders import causes


@dataclass(frozen=True)
class Cause:
    """did: what the cause did in this run, with {entries} of the case. path: the probes that show it for the
    least money; none where the run is seen through without one. sees: what one sees there."""

    did: str
    path: tuple[str, ...]
    sees: str


CAUSES = {
    "healthy": Cause(
        "Rows, labels, rate and evaluation are as they should be. The errors that are left are what {rows} "
        "rows teach a small model.",
        ("tokens", "adapter", "copies"),
        "what costs nothing shows no fault, the losses fall together, and the replies are of the right form",
    ),
    "template-mismatch": Cause(
        'The training rows were in the form "{format}", and the evaluation asked with the tokenizer\'s chat '
        "template. What was learned hangs on a form that never comes.",
        ("tokens",),
        "the rows lack the marks of the model's own chat template",
    ),
    "prompt-in-loss": Cause(
        "Every token was trained on, the questions included: most of each step went into writing questions, "
        "and the logged loss is mostly theirs.",
        ("tokens",),
        "tokens of the question are marked as learned",
    ),
    "eos-not-learned": Cause(
        "The token that ends an answer was masked in the {end_masked}: no loss ever fell on it, and nothing "
        "taught the model to stop.",
        ("tokens",),
        "the token that ends the answer is not marked as learned, and the replies run on",
    ),
    "lr-too-high": Cause(
        "The learning rate was {learning_rate:g}: the steps threw the model away from what it could do.",
        (),
        "the loss jumps up or stays high, and the settings say why",
    ),
    "lr-too-low": Cause(
        "The learning rate was {learning_rate:g}: in the steps it had, the adapter hardly left zero.",
        ("adapter",),
        "B is nearly, though not exactly, zero, and the loss hardly falls",
    ),
    "capacity-too-small": Cause(
        "{rows} rows of random codes had to go into rank {rank} on {targets}. What follows from nothing has "
        "to be stored in the adapter's parameters, and these hold about two bits each.",
        (),
        "the loss stays on a plateau, and the settings show how small the adapter is",
    ),
    "memorised": Cause(
        "{rows} rows were repeated {epochs} times, until the model knew them word for word. Nothing of that "
        "carries over to other rows.",
        (),
        "few rows and many epochs; the training loss goes to zero while that of the evaluation rises",
    ),
    "leaked-eval": Cause(
        "{leaked} of the evaluation rows stood in the training rows, a word or two changed. The figures "
        "are those of remembering.",
        ("copies",),
        "pairs of nearly the same message",
    ),
    "adapter-inactive": Cause(
        "The evaluation ran with the adapter switched off: what was trained had no part in it.",
        ("without_adapter",),
        "the base model alone has exactly the same figures, though the log shows that something was learned",
    ),
    "no-gradient": Cause(
        "Reentrant checkpointing, and inputs of the first block that need no gradient: none reached the "
        "adapter, and B stayed exactly zero.",
        ("adapter",),
        "every B is exactly zero",
    ),
    "truncated": Cause(
        "Of {cut} of the rows the prompt alone filled max_length: nothing of their answer was left.",
        ("tokens",),
        "rows end before their answer does, or are missing",
    ),
    "noisy-labels": Cause(
        "{noise} of the training rows had the answer of another row, as a join by the wrong key gives.",
        ("tokens",),
        "an answer that does not belong to its question; five rows may miss it, reading on would not",
    ),
    "padding-side": Cause(
        "Prompts of one batch were filled up on the right: the short ones went on behind their padding.",
        ("one_by_one",),
        "the same rows one by one get better replies",
    ),
    "eval-template": Cause(
        "Training used the tokenizer's chat template, and the evaluation asked in the form "
        '"{asked_format}".',
        ("tokens", "training_format"),
        "the rows are in the model's own form, and asked in that form the run does far better",
    ),
}


def title(kind: str) -> str:
    """The cause in a few words."""
    return "Nothing is broken" if kind == "healthy" else causes.BY_ID[kind].title


def fix(kind: str) -> str:
    """What to change."""
    nothing = "there is nothing to mend; more rows would be the next thing to try."
    return nothing if kind == "healthy" else causes.BY_ID[kind].fix


def told(kind: str, case: dict) -> str:
    """What a cause did in a case (see kinds.case), in sentences."""
    shares = {name: f"{100 * case[name]:.0f} %" for name in ("cut", "noise", "leaked")}
    return CAUSES[kind].did.format(**case | shares)


# ---------------------------------------------------------------- what speaks against a wrong name


def against(named: str, kind: str, view: dict, probes: dict) -> str:
    """One line on what in the evidence of a run speaks against a cause that is not its own.

    view and probes: of the record. A run differs from a sound one in one thing only, so what holds of sound
    runs holds here of everything else.
    """
    line = {
        "healthy": lambda: not_healthy(kind),
        "template-mismatch": lambda: "In `tokens` the rows have the model's own chat template.",
        "prompt-in-loss": lambda: "In `tokens` no token of a question is learned.",
        "eos-not-learned": lambda: "In `tokens` wherever an answer's end is in the row, it is learned.",
        "lr-too-high": lambda: rate(view),
        "lr-too-low": lambda: rate(view),
        "capacity-too-small": lambda: capacity(view),
        "memorised": lambda: repetition(view),
        "leaked-eval": lambda: leak(probes),
        "adapter-inactive": lambda: activity(view, probes),
        "no-gradient": lambda: f"In `adapter` B is not zero: its largest norm is {largest_b(probes):g}.",
        "truncated": lambda: "In `tokens` no row is missing, and every answer is there to its end.",
        "noisy-labels": lambda: "Read the rows in `tokens`: every answer belongs to its question.",
        "padding-side": lambda: same(view, probes, "one_by_one", "One by one"),
        "eval-template": lambda: template(kind, view, probes),
    }
    return line[named]()


def not_healthy(kind: str) -> str:
    """Where a sound run would look otherwise."""
    path = CAUSES[kind].path
    where = f"`{'` and `'.join(path)}`" if path else "curve, settings and counts, which cost nothing,"
    return f"A sound run would look otherwise in {where}: look again."


def sound(view: dict, entry: str) -> tuple:
    """What sound runs of the same model and task have of an entry: (lowest, highest)."""
    base = view["base"] if view["base"] == kinds.BUNDLED else kinds.TINY
    settings = kinds.VARIED | kinds.HEALTHY[base, view["task"]]
    if entry == "rows" and "facts" in settings:
        low, high = ends(settings["facts"])
        return low * kinds.PHRASINGS, high * kinds.PHRASINGS
    return ends(settings[entry])


def ends(drawn) -> tuple:
    if hasattr(drawn, "values"):
        return min(drawn.values), max(drawn.values)
    return (drawn.low, drawn.high) if hasattr(drawn, "low") else (drawn, drawn)


def span(low, high) -> str:
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def rate(view: dict) -> str:
    usual = span(*sound(view, "learning_rate"))
    return (
        f"The learning rate is {view['settings']['learning_rate']:g}; sound runs of this task have {usual}."
    )


def capacity(view: dict) -> str:
    settings, least = view["settings"], sound(view, "rank")[0]
    return (
        f"The adapter has rank {settings['rank']} on {settings['targets']}; sound runs of this task do with "
        f"rank {least} on all-linear."
    )


def repetition(view: dict) -> str:
    return (
        f"There are {view['counts']['training_rows']} rows, seen {view['settings']['epochs']} times each; "
        f"sound runs of this task have {span(*sound(view, 'rows'))}, {span(*sound(view, 'epochs'))} times."
    )


def leak(probes: dict) -> str:
    return (
        f"`copies` finds {probes['copies']['found']} of {probes['copies']['of']} evaluation rows in training."
    )


def largest_b(probes: dict) -> float:
    return max(b for _, b in probes["adapter"]["norms"].values())


def activity(view: dict, probes: dict) -> str:
    """Against replies without the adapter: the base model does otherwise, or the adapter is nothing."""
    mine, base = view["evaluation"]["loss"], probes["without_adapter"]["loss"]
    if mine == base:
        return f"On or off, the adapter adds nothing: the largest norm of B is {largest_b(probes):g}."
    return f"On the right answers the base model's loss is {base:.3g}; that of this evaluation is {mine:.3g}."


def same(view: dict, probes: dict, probe: str, how: str) -> str:
    """Against a fault of the evaluation: without it the replies to the same rows are no better."""
    there, here = probes[probe], view["evaluation"]
    return (
        f"{how} {100 * there['parts']:.0f} % of the parts are right, and as the evaluation asks "
        f"{100 * here['parts']:.0f} %, on the same {there['rows']} rows."
    )


def template(kind: str, view: dict, probes: dict) -> str:
    if kind == "template-mismatch":
        return "The evaluation asks with the model's own chat template: look for what does not."
    return same(view, probes, "training_format", "Asked as in training")
