"""Does it fit the card, how long does it take, what does it cost: asked of planner and cost model."""

from __future__ import annotations

import dataclasses
import math
from array import array
from collections.abc import Iterator

from labsupport.core.files import LabError
from labsupport.core.text import number, span
from labsupport.findings.check import Check, Run, View
from labsupport.findings.finding import Hit, Rule, hit_whole
from labsupport.settings_checks.recipe_checks import config_of, rows_fed, schedule
from labsupport.training_data.record import Record

DOES_NOT_FIT = Rule(
    "memory-does-not-fit",
    "error",
    "The traced step needs more memory than the card has: the run stops at the first of its longest rows.",
    "Nothing that the planner tried makes it fit: take a smaller model or a larger card.",
)
TIME_AND_MONEY = Rule(
    "time-and-money",
    "note",
    "An estimate from what the card computes, reads and launches; nothing was measured on it.",
    "See `lab.py cost` for where the time goes.",
)
RULES = (DOES_NOT_FIT, TIME_AND_MONEY)
CHARACTERS_A_TOKEN = 4  # where there is no tokenizer, as in `lab.py cost --data`


class Resources(Check):
    """Memory against --gpu, and time and money with --rate."""

    def __init__(self, run: Run):
        super().__init__(run)
        self.lengths = array("I")  # tokens of each row that was seen token by token, or by its characters

    def see(self, record: Record) -> Iterator[Hit]:
        if self.run.tokenizer is None and self.run.gpu is not None and self.run.recipe is not None:
            tokens = max(1, math.ceil(len(record.whole) / CHARACTERS_A_TOKEN))
            self.lengths.append(min(tokens, self.run.recipe.get("max_length") or tokens))
        return iter(())

    def see_tokens(self, record: Record, view: View) -> Iterator[Hit]:
        self.lengths.append(max(1, len(view.ids)))
        return iter(())

    def end(self) -> Iterator[Hit]:
        from labsupport.sizes import gpus

        run = self.run
        if run.gpu is None:
            if run.rate is not None:
                run.notes.append("Time and money: not estimated, for no card was named (--gpu).")
            return
        card = gpus.find(run.gpu)
        try:
            setup = setup_of(run, self.lengths)
        except LabError as error:
            run.notes.append(f"Memory and time: not looked at. {error}")
            return
        if run.tokenizer is None:
            run.notes.append(f"Memory and time: rows at {CHARACTERS_A_TOKEN} characters a token.")
        yield from memory(run, setup, card)
        if run.rate is not None:
            yield from money(run, setup, card, self.lengths)


def setup_of(run: Run, lengths):
    """The run for the planner, a batch of its longest rows. LabError, saying why, where that cannot be."""
    from labsupport.setups.setup import Setup, checked

    recipe = run.recipe
    if recipe is None:
        raise LabError("It takes the settings (--config).")
    if not lengths:
        raise LabError("It takes rows, and there are none.")
    if (config := config_of(run)) is None:
        raise LabError(f"The sizes of the model {run.model} are not known here: give its folder to --model.")
    if recipe.get("load_in_8bit"):
        raise LabError("Weights in 8 bits are not planned.")
    if recipe.get("lora_modules_to_save"):
        raise LabError(
            "Layers that are trained in full beside the adapters (modules_to_save) are not planned."
        )
    get = recipe.get
    setup = Setup(
        config=config,
        method=method_of(recipe),
        rank=get("lora_r"),
        targets=targets_of(recipe, config),
        batch=get("per_device_train_batch_size"),
        length=get("max_length") if get("packing") and get("max_length") else max(lengths),
        dtype=dtype_of(recipe),
        checkpointing=recipe.checkpointing,
        optimizer=get("optim"),
        double_quantization=bool(get("use_bnb_nested_quant")) if recipe.four_bit else None,
        padded=is_padded(recipe),
        attention="eager" if get("attn_implementation") == "eager" else "sdpa",
        supervised=max(run.trained, 1) / run.tokens if run.tokens else 1.0,
        accumulation=get("gradient_accumulation_steps"),
        dropout=get("lora_dropout"),
        autocast=recipe.bf16 or bool(get("fp16")),
    )
    return checked(setup)


def method_of(recipe) -> str:
    """What the planner calls the method."""
    if recipe.method is None:
        raise LabError("The settings do not say what is trained: add use_peft or lora_r.")
    if recipe.method == "full":
        return "full"
    name = "dora" if recipe.get("use_dora") else "lora"
    return f"q{name}" if recipe.four_bit else "rslora" if recipe.get("use_rslora") else name


def dtype_of(recipe) -> str:
    """What the weights are loaded in: in trl's own script float32 unless dtype is set."""
    asked = (
        (recipe.get("model_init_kwargs") or {}).get("dtype")
        if isinstance(recipe.get("model_init_kwargs"), dict)
        else None
    )
    asked = asked or recipe.given.get("dtype") or ("float32" if recipe.of_trl else "bfloat16")
    return "bfloat16" if asked == "auto" else asked


def targets_of(recipe, config: dict) -> str | tuple[str, ...]:
    """The target modules; PEFT's own for the architecture where none are named."""
    from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as DEFAULTS

    asked = recipe.get("lora_target_modules") or DEFAULTS.get(config["model_type"]) or "all-linear"
    return asked if isinstance(asked, str) else "all-linear" if "all-linear" in asked else tuple(asked)


def is_padded(recipe) -> bool:
    """Whether the step has a mask: packing keeps rows apart without one under FlashAttention only."""
    flash = "flash" in (recipe.get("attn_implementation") or "")
    return not (recipe.get("packing") and (flash or recipe.get("packing_strategy") == "wrapped"))


def memory(run: Run, setup, card) -> Iterator[Hit]:
    """A finding where the step does not fit; else a sentence."""
    from labsupport.planning import planner

    try:
        plan = planner.plan(setup, card)
    except LabError as error:
        run.notes.append(f"Memory: not looked at. {error}")
        return
    said = (
        f"{setup.method} needs {plan.needed_gib:.2f} GiB with {setup.batch} x {setup.length:,} tokens, "
        f"and {card.sold_as} has {card.memory_gib:g}"
    )
    if plan.fits:
        run.notes.append(f"Memory: {said} (traced, not measured).")
        return
    fixes = [f"{one.change} (reserves {one.peak_reserved_gib:.2f} GiB)" for one in plan.suggestions]
    fix = f"What fits, as traced: {'; or '.join(fixes)}." if fixes else DOES_NOT_FIT.fix
    yield hit_whole(dataclasses.replace(DOES_NOT_FIT, fix=fix), said)


def money(run: Run, setup, card, lengths) -> Iterator[Hit]:
    """A note with hours and money, for rows filled up to the longest of their batch, or packed ones."""
    from labsupport.cost import cost_model, data_file

    if run.recipe.get("packing") and not run.sampled:
        run.notes.append("Time and money: not estimated, for packed rows are counted in tokens.")
        return
    if not run.recipe.get("packing"):
        length = max(1, math.ceil(data_file.padded_length(list(lengths), setup.batch)))
        setup = dataclasses.replace(setup, length=length)
    cards = run.recipe.given.get("num_processes", 1)
    steps, epochs = schedule(run)
    try:
        cost = cost_model.estimate(setup, rows_fed(run), epochs, card, run.rate, cards)
    except LabError as error:
        run.notes.append(f"Time and money: not estimated. {error}")
        return
    yield hit_whole(
        TIME_AND_MONEY,
        f"{span(cost.hours)} hours and {span(cost.money)} in the currency of the rate, for {cost.tokens:,} "
        f"tokens in {steps:,} steps ({number(epochs)} x the data) on {cards} x {card.sold_as}",
    )


CHECKS = (Resources,)
