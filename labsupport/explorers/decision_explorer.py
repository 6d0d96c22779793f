"""The decision wizard: should you fine-tune at all, what comes first, and what does it cost?"""

from __future__ import annotations

import ipywidgets as widgets

from labsupport.baselines import decision
from labsupport.baselines.decision import Answers, Decision, decide
from labsupport.core.files import LabError
from labsupport.core.text import span
from labsupport.teaching.explorer_shell import Explorer, View


def view(
    parameters_b: float = 7.0,
    gpu_gb: float = 24.0,
    aim: str = "ordinary",
    task: str = "ordinary",
    tokens_each: int = 200,
    text_m: float = 100.0,
    hourly_rate: float = 1.0,
    requests: int = 100_000,
    **answers,
) -> View:
    """The path for these answers as a table: what is done, what is next, why, GPU hours and money.

    tokens_each: tokens of a training example, and of retrieved text or examples in a request; text_m: million
    tokens of domain text; hourly_rate: of the card, in your currency; requests: a month. The rest: Answers.
    """
    for name, value in (("tokens_each", tokens_each), ("text_m", text_m), ("hourly_rate", hourly_rate)):
        if value < 0:
            raise LabError(f"{name} is {value}: it cannot be negative.")
    facts = Answers(**answers)
    found = decide(facts)
    technique, reason = decision.kind_of_tuning(parameters_b, gpu_gb, aim, task)
    four_bit = technique.startswith("QLoRA")
    table = []
    for step in found.path:
        tokens_m = tokens(step, facts, tokens_each, text_m)
        hours = decision.gpu_hours(step, parameters_b, tokens_m, four_bit, tokens_each)
        monthly = step in ("few-shot", "retrieval")
        if monthly:
            hours = decision.prompt_hours(parameters_b, tokens_each, requests)
        table.append(
            {
                "step": step + (f" ({technique})" if step == "LoRA fine-tuning" else ""),
                "": state(step, found, facts),
                "why": found.why[step] + (f" {reason}" if step == "LoRA fine-tuning" else ""),
                "your time": decision.TIME.get(step, ""),
                "GPU hours": span(hours) + (" a month" if monthly else "") if hours else "",
                "money": span([h * hourly_rate for h in hours]) + (" a month" if monthly else "")
                if hours
                else "",
            }
        )
    table += [{"step": "what would change this", "why": sentence} for sentence in found.changes]
    heading = f"Next: {found.next}." if found.next else "Stop here: what you have is good enough."
    count = max(facts.examples, decision.ENOUGH_EXAMPLES)
    assumed = (
        f"Hours are computed, not measured, for a {decision.CARD.sold_as}; activation checkpointing, "
        f"{decision.EPOCHS} epochs, {count:,} examples of {tokens_each:,} tokens, {requests:,} requests a "
        f"month without a reused prefix. Money at {hourly_rate:g} an hour."
    )
    if four_bit:
        assumed += " 4-bit weights are unpacked for every product."
    table.append({"step": "assumed", "why": assumed})
    return View(heading, table)


def tokens(step: str, facts: Answers, each: int, text_m: float) -> float:
    """Million tokens of a step's training set; at least what counts as enough of it."""
    if step == "continued pretraining":
        return text_m
    if step == "DPO":
        return 2 * max(facts.pairs, decision.ENOUGH_PAIRS) * each / 1e6
    return max(facts.examples, decision.ENOUGH_EXAMPLES) * each / 1e6


def state(step: str, found: Decision, facts: Answers) -> str:
    """Where a step stands: done, next, later, or not needed."""
    if step in decision.DONE[facts.tried]:
        return "done"
    if found.next is None:
        return "not needed"
    return "next" if step == found.next else "if that is not enough"


def explore(**start) -> Explorer:
    """The wizard; start values by name, as in `view` and decision.Answers."""
    values = {name: start.get(name, getattr(Answers, name)) for name in Answers.__dataclass_fields__}
    number, whole = widgets.BoundedFloatText, widgets.BoundedIntText
    controls = {
        "need": widgets.Dropdown(
            options=[(text, name) for name, text in decision.NEEDS.items()],
            value=values["need"],
            description="I want my model to",
        ),
        "tried": widgets.Dropdown(options=decision.TRIED, value=values["tried"], description="tried so far"),
        "limit": widgets.Dropdown(options=decision.LIMITS, value=values["limit"], description="limit"),
    }
    for name, text in QUESTIONS.items():
        controls[name] = widgets.Checkbox(value=values[name], description=text, indent=False)
    controls |= {
        "examples": whole(value=values["examples"], max=10**7, description="labelled examples"),
        "pairs": whole(value=values["pairs"], max=10**7, description="preference pairs"),
        "parameters_b": number(
            value=start.get("parameters_b", 7), min=0.1, max=500, description="parameters (billions)"
        ),
        "gpu_gb": number(value=start.get("gpu_gb", 24), min=4, max=200, description="GPU memory (GB)"),
        "aim": widgets.Dropdown(options=decision.AIMS, value=start.get("aim", "ordinary"), description="aim"),
        "task": widgets.Dropdown(
            options=list(decision.RANKS), value=start.get("task", "ordinary"), description="task"
        ),
        "tokens_each": whole(
            value=start.get("tokens_each", 200), min=1, max=100_000, description="tokens an example"
        ),
        "text_m": number(
            value=start.get("text_m", 100), min=0, max=10**6, description="domain text (million tokens)"
        ),
        "hourly_rate": number(value=start.get("hourly_rate", 1), min=0, max=1000, description="rate an hour"),
        "requests": whole(value=start.get("requests", 100_000), max=10**9, description="requests a month"),
    }
    return Explorer(view, controls, "Should you fine-tune?")


QUESTIONS = {
    "good_enough": "what I tried is good enough",
    "test_set": "I can check success on a test set",
    "closed": "answers are one of few values, or copied",
    "must_be_valid": "replies must always be valid (JSON, SQL)",
    "facts_change": "facts change weekly",
    "base_fails": "the best prompt never gets it right",
    "domain_text": "I have much text of the field",
    "several_gpus": "several GPUs",
}
