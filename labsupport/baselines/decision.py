"""Should you fine-tune at all? The order in which to try things, and what each costs.

Three of the guides give rules for this: the module page's decision tree, the series article's decision table
and the table "when fine-tuning beats prompting" of the day-078 course page. The rules here follow them;
DISAGREEMENTS says where not, and why. tests/baselines/test_decision.py walks every branch of all three.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from labsupport.configs import model_configs
from labsupport.core.files import LabError
from labsupport.cost import step_time
from labsupport.setups.setup import Setup
from labsupport.sizes import counting, gpus

NEEDS = {
    "know": "know my documents",
    "form": "write in our voice or format",
    "procedure": "follow a procedure of several steps",
    "preferences": "behave as people prefer (helpful, safe)",
    "domain": "handle a language or field it hardly knows",
    "unsure": "I am not sure yet",
}
LIMITS = ("none", "latency or cost", "data must stay here")
TRIED = ("nothing", "prompt", "few-shot", "all without training", "LoRA")
# What counts as enough. 500: from where the Tensoria guide says examples help; 200: the pairs of the module
# page's checkpoint 5. Neither is a law: draw your own learning curve.
ENOUGH_EXAMPLES, ENOUGH_PAIRS, FULL_EXAMPLES = 500, 200, 100_000

DISAGREEMENTS = {
    "series: maximum quality": "The article says DoRA. With the learning rate tuned, the variants end within "
    "1 to 2 % of each other (Learning Rate Matters, 2026), and PEFT's own benchmark has DoRA at 46.9 % and "
    "LoRA at 47.8 %. So: tune LoRA first, DoRA is one more candidate.",
    "series: small model": "The article says full fine-tuning is often better below 1B. That it fits is "
    "arithmetic; that it is better is not given: compare it with LoRA on your own test set.",
    "series: compose skills": "The article says adapter fusion. That needs bottleneck adapters, which PEFT "
    "does not have (AdapterHub's library does). Train one LoRA on a mix of the tasks first.",
    "day-078: cost": "The page gives LoRA $10-100 and full fine-tuning $100-10K. Prices drift and depend on "
    "size: here cost is computed from your rows, your model and your hourly rate.",
    "day-078: full fine-tuning": "The page says full fine-tuning for maximum performance. The module page "
    "adds conditions, and they are asked for here: LoRA fell short, 100,000 examples, several GPUs.",
}


@dataclass(frozen=True)
class Answers:
    """What a team knows about its task. See `decide`."""

    need: str = "form"
    tried: str = "nothing"
    good_enough: bool = False  # what was tried last meets the bar
    test_set: bool = True  # success can be checked on messages that nobody tuned on
    closed: bool = False  # the answer is one of few values, or copied from the input
    must_be_valid: bool = False  # a program reads it: 100 % valid structure
    facts_change: bool = False  # what it must know changes weekly
    base_fails: bool = False  # with the best prompt the model cannot do it at all
    limit: str = "none"
    examples: int = 0
    pairs: int = 0
    domain_text: bool = False  # a large body of unlabelled text of the field
    several_gpus: bool = False


@dataclass(frozen=True)
class Decision:
    """path: steps in the order to try them, stopping at the first that is good enough; next: the first
    one not yet done (None: stop here); why: step -> reason; changes: what would change the answer."""

    path: tuple[str, ...]
    next: str | None
    why: dict[str, str]
    changes: tuple[str, ...]


WHY = {
    "write down the task and a test set": "Who cannot say what right is cannot tell whether anything helped.",
    "prompt": "The first attempt, always: minutes, and the yardstick for all that follows.",
    "rules or a classifier": "Closed answers can be had without a language model, trained in seconds on a "
    "processor; in notebook 00 this sets the number to beat.",
    "few-shot": "Examples show form and style; the price is tokens in every request.",
    "retrieval": "Facts belong where they can be changed without training and shown as a source.",
    "constrained decoding": "Fine-tuning makes format errors rare, a grammar makes them impossible.",
    "larger base model": "Fine-tuning adapts what a model can do; what it cannot do needs another one.",
    "collect examples": f"A guide's figure: tuning starts to help from {ENOUGH_EXAMPLES} good examples on.",
    "LoRA fine-tuning": "For behaviour, form or skill that prompting does not bring out reliably.",
    "full fine-tuning": "For the last bit of quality, once LoRA measurably falls short.",
    "collect preference pairs": f"DPO learns from (prompt, better, worse); start from {ENOUGH_PAIRS} or so.",
    "DPO": "Preferences, once the model does the task: after supervised fine-tuning.",
    "collect domain text": "Continued pretraining learns from plain text, and needs a lot of it.",
    "continued pretraining": "For a language or field that pretraining hardly saw. Rare, and the dearest.",
}
DONE = {
    "nothing": (),
    "prompt": ("prompt",),
    "few-shot": ("prompt", "few-shot"),
    "all without training": (
        "prompt",
        "few-shot",
        "retrieval",
        "rules or a classifier",
        "constrained decoding",
    ),
}
DONE["LoRA"] = (*DONE["all without training"], "larger base model", "collect examples", "LoRA fine-tuning")


def decide(answers: Answers) -> Decision:
    """The path for these answers. LabError for an unknown need, limit or stage or a negative count."""
    check_answers(answers)
    path = tuple(steps_in_order(answers))
    left = [step for step in path if step not in DONE[answers.tried]]
    enough = answers.good_enough and answers.tried != "nothing" and answers.test_set
    # Good but too slow or dear: a small tuned model, taught by the answers of the good one.
    shrink = (
        enough and answers.limit == "latency or cost" and answers.tried != "LoRA" and answers.need != "know"
    )
    if shrink:
        left = ["LoRA fine-tuning"]
        path = tuple(dict.fromkeys([*path, *left]))
    elif enough:
        left = []
    why = {step: WHY[step] for step in path}
    if shrink:
        why["LoRA fine-tuning"] = (
            "A small tuned model can replace a large prompted one, whose answers teach it."
        )
    return Decision(path, left[0] if left else None, why, tuple(what_would_change_it(answers, path)))


def check_answers(a: Answers) -> None:
    for name, value, known in (
        ("need", a.need, tuple(NEEDS)),
        ("limit", a.limit, LIMITS),
        ("stage", a.tried, TRIED),
    ):
        if value not in known:
            raise LabError(f"Unknown {name} {value!r}. There are: {', '.join(known)}.")
    for name in ("examples", "pairs"):
        if getattr(a, name) < 0:
            raise LabError(f"{name} is {getattr(a, name)}: a count cannot be negative.")


def steps_in_order(a: Answers) -> list[str]:
    """All steps for a need, in order, before looking at what was done."""
    if a.need == "unsure":
        return ["write down the task and a test set"]
    found = [] if a.test_set else ["write down the task and a test set"]
    found.append("prompt")
    found += ["rules or a classifier"] if a.closed else []
    found += ["few-shot"] if a.need in ("form", "procedure") else []
    found += ["retrieval"] if a.need == "know" or a.facts_change else []
    found += ["constrained decoding"] if a.must_be_valid else []
    if a.need == "know":
        return found  # no training: it would store facts where they cannot be changed
    if a.need == "domain":
        found += [] if a.domain_text else ["collect domain text"]
        found.append("continued pretraining")
    elif a.base_fails:
        found.append("larger base model")
    found += [] if a.examples >= ENOUGH_EXAMPLES else ["collect examples"]
    found.append("LoRA fine-tuning")
    if a.tried == "LoRA" and a.examples >= FULL_EXAMPLES and a.several_gpus:
        found.append("full fine-tuning")
    if a.need == "preferences":
        found += [] if a.pairs >= ENOUGH_PAIRS else ["collect preference pairs"]
        found.append("DPO")
    return found


def what_would_change_it(a: Answers, path: tuple[str, ...]) -> list[str]:
    """What would change the answer, for this path only."""
    found = []
    if a.need == "unsure":
        return ["Say what the model should do that it does not do now: every branch starts there."]
    if a.need == "know":
        found.append("If it knows the facts but says them in the wrong form: that is a question of form.")
    if not a.closed:
        found.append(
            "If the answer is one of few values or copied: rules and a classifier come before any tuning."
        )
    if "LoRA fine-tuning" in path and not a.facts_change:
        found.append(
            "If what it must know changes weekly: retrieval for the facts, tuning for the form only."
        )
    if "LoRA fine-tuning" in path and not a.base_fails and a.need != "domain":
        found.append("If the best prompt never gets it right: a larger base model before any tuning.")
    if a.limit == "none":
        found.append("If prompting is good enough but too slow or dear: tune a small model on its answers.")
    if a.limit == "data must stay here":
        found.append(
            "Data that must stay rules out hosted models, not a step: all of this runs on your machine."
        )
    if "LoRA fine-tuning" in path and "full fine-tuning" not in path:
        found.append("If LoRA falls short with 100,000 examples and several GPUs: full fine-tuning.")
    return found


# ---------------------------------------------------------------- LoRA, QLoRA, DoRA or full?

AIMS = ("ordinary", "maximum quality", "many tasks", "compose skills")
RANKS = {"simple": "rank 4-8", "ordinary": "rank 16", "complex": "rank 32-64"}


def kind_of_tuning(
    parameters_b: float, gpu_gb: float, aim: str = "ordinary", task: str = "ordinary"
) -> tuple[str, str]:
    """Which kind of fine-tuning fits, and why. Follows the series article's table, see DISAGREEMENTS.

    parameters_b: billions; gpu_gb: GB of one card. aim: "ordinary", "maximum quality", "many tasks" or
    "compose skills"; task: "simple", "ordinary" or "complex". Memory is a lower bound, without activations:
    2 bytes a parameter for 16-bit weights, 0.7 for NF4 (Llama-3.1-8B shrinks 2.8 times), 16 for full
    fine-tuning in mixed precision. Notebook 05's planner is exact.
    """
    if aim not in AIMS or task not in RANKS:
        raise LabError(
            f"Unknown aim {aim!r} or task {task!r}. Aims: {', '.join(AIMS)}; tasks: {', '.join(RANKS)}."
        )
    if parameters_b <= 0 or gpu_gb <= 0:
        raise LabError(f"{parameters_b} billion parameters on {gpu_gb} GB: give numbers above 0.")
    rank = RANKS[task]
    if aim == "compose skills":
        return f"LoRA on a mix of the tasks, {rank}", DISAGREEMENTS["series: compose skills"]
    if parameters_b < 1 and 16 * parameters_b <= 0.8 * gpu_gb and aim != "many tasks":
        return f"full fine-tuning, beside LoRA with {rank}", DISAGREEMENTS["series: small model"]
    if 2 * parameters_b > 0.7 * gpu_gb:
        fits = 0.7 * parameters_b <= 0.7 * gpu_gb
        kind = "QLoRA" if fits else "a smaller model or more GPUs"
        return f"{kind}, {rank}" if fits else kind, "16-bit weights would not leave room for activations."
    if aim == "maximum quality":
        return f"LoRA with its learning rate tuned, {rank}; then DoRA", DISAGREEMENTS[
            "series: maximum quality"
        ]
    if aim == "many tasks":
        return f"LoRA, {rank}", "One base model in memory, one small adapter a task."
    return (
        f"LoRA, {rank}",
        "16-bit weights fit with room for activations: faster than QLoRA, no quantisation.",
    )


# ---------------------------------------------------------------- hours

EPOCHS = 2  # the module page's recipe; continued pretraining reads its text once
TEXT_LENGTH = 2048  # tokens of a packed row, and of a prompt that fills the card
CARD = gpus.find("l4")  # the course's card for rented hours, as in the cost estimator
ADAPTER_STEPS = ("LoRA fine-tuning", "DPO")
FULL_STEPS = ("full fine-tuning", "continued pretraining")
# In the words of the day-078 table; for retrieval the module page's ("fast and cheap").
TIME = {
    "prompt": "minutes",
    "few-shot": "hours",
    "retrieval": "fast",
    "LoRA fine-tuning": "hours",
    "full fine-tuning": "days",
    "continued pretraining": "weeks",
}


def gpu_hours(
    step: str, parameters_b: float, tokens_m: float, four_bit: bool = False, length: int = 512
) -> tuple[float, float] | None:
    """Least and most hours of a step on CARD, by the cost model; None for a step that does not train.

    tokens_m: million tokens in the training set (of both replies, for DPO), each seen EPOCHS times; length:
    tokens of an example. Only the model's size is known here: see `of_that_size`. Four rows a micro-batch,
    activation checkpointing on, rank 16 on all linear layers; plain text is packed. DPO runs a frozen
    reference forwards beside the policy. four_bit: LoRA and DPO on 4-bit weights.
    """
    if step not in (*ADAPTER_STEPS, *FULL_STEPS):
        return None
    method = "full" if step in FULL_STEPS else "qlora" if four_bit else "lora"
    config, ratio = of_that_size(parameters_b)
    setup = Setup(config, method, length=max(1, length))
    if step == "continued pretraining":
        setup = Setup(config, method, length=TEXT_LENGTH, padded=False)
    taken = step_time.step_time(setup, CARD).seconds
    if step == "DPO":
        taken = step_time.plus(taken, step_time.forward_time(setup, CARD))
    epochs = 1 if step == "continued pretraining" else EPOCHS
    steps = tokens_m * 1e6 * epochs / (setup.batch * setup.length)
    return step_time.times(ratio * steps / 3600, taken)


def prompt_hours(parameters_b: float, extra_tokens: int, requests: int) -> tuple[float, float]:
    """Least and most hours on CARD to read `extra_tokens` more of prompt in each request, forwards only.

    A reused prefix (fixed instructions or examples) is read once and costs next to nothing: this is for
    what differs in every request, such as retrieved text, where requests come close enough to fill the card.
    """
    config, ratio = of_that_size(parameters_b)
    setup = Setup(config, "full", batch=1, length=TEXT_LENGTH, padded=False)
    times = ratio * extra_tokens * requests / TEXT_LENGTH / 3600
    return step_time.times(times, step_time.forward_time(setup, CARD))


def of_that_size(parameters_b: float) -> tuple[dict, float]:
    """(config, ratio): of the built-in Llama models the nearest in size, and how often its parameters."""
    wanted = parameters_b * 1e9
    configs = [model_configs.find(name) for name in model_configs.names()]
    sizes = [
        (counting.model_parameters(config), config) for config in configs if config["model_type"] == "llama"
    ]
    count, config = min(sizes, key=lambda size: abs(math.log(size[0] / wanted)))
    return config, wanted / count
