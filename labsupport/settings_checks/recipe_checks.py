"""Settings that the data, the model or the card make a fault of, beside those that are one by themselves."""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Iterator

from labsupport.core.files import LabError
from labsupport.core.text import number
from labsupport.findings.check import Check, Run
from labsupport.findings.finding import Hit, hit, hit_whole
from labsupport.settings_checks import recipe_rules as rules
from labsupport.settings_checks.recipe_rules import RULES
from labsupport.token_checks.token_checks import FEWEST_STEPS
from labsupport.training_data.record import Record

WITH_COMPLETION = ("prompt_completion", "alpaca")
PARAMETERS = re.compile(r"(?<![\d.])(\d+(?:\.\d+)?)\s?([bm])(?![a-z])", re.IGNORECASE)
BF16_MODELS = re.compile(r"llama-?3|mistral|mixtral|qwen-?[23]|gemma|phi-?[34]|smollm", re.IGNORECASE)
HEADS = ("lm_head", "embed_tokens", "wte", "word_embeddings")


# ---------------------------------------------------------------- facts


def config_of(run: Run) -> dict | None:
    """The configuration of the run's model, in a folder or by a name that the course knows; else None."""
    from pathlib import Path

    from labsupport.configs import model_configs

    if run.model is None:
        return None
    try:
        if Path(run.model).is_dir():
            return model_configs.read(run.model)
        return model_configs.find(run.model)
    except LabError:
        return None


def parameters_of(run: Run) -> float | None:
    """How many parameters the model has, by its configuration, else by its name; None where neither says."""
    from labsupport.sizes import counting

    if (config := config_of(run)) is not None:
        return counting.model_parameters(config)
    said = PARAMETERS.findall(run.model or "")
    return float(said[-1][0]) * {"b": 1e9, "m": 1e6}[said[-1][1].lower()] if said else None


def believed(bounds: dict[float, float], parameters: float | None) -> float:
    """The highest rate of a table by parameters; of a model that is not known, the highest of all."""
    if parameters is None:
        return max(bounds.values())
    return next(rate for less_than, rate in bounds.items() if parameters < less_than)


def rows_fed(run: Run) -> int:
    """Rows as the trainer counts them: packed ones, where it packs."""
    length = run.recipe.get("max_length")
    if run.recipe.get("packing") and length and run.sampled:
        return max(1, math.ceil(run.tokens / run.sampled * run.rows / length))
    return run.rows


def schedule(run: Run) -> tuple[int, float]:
    """(optimizer steps, epochs) of the run."""
    rows, recipe = rows_fed(run), run.recipe
    a_pass = max(1, math.ceil(rows / recipe.batch))
    if recipe.get("max_steps") > 0:
        return recipe.get("max_steps"), recipe.get("max_steps") / a_pass
    epochs = recipe.get("num_train_epochs")
    return math.ceil(a_pass * epochs), epochs


def counted(steps: int) -> str:
    return "1 optimizer step" if steps == 1 else f"{steps:,} optimizer steps"


# ---------------------------------------------------------------- checks


class Named(Check):
    """Names and values that are not today's, and settings that exclude each other."""

    def end(self) -> Iterator[Hit]:
        if (recipe := self.run.recipe) is None:
            return
        for old, new in recipe.outdated:
            yield hit_whole(rules.OUTDATED, f"{old}: {new}")
        for old, new in recipe.deprecated:
            yield hit_whole(rules.DEPRECATED, f"{old}: {new}")
        for name in recipe.as_text:
            yield hit_whole(rules.AS_TEXT, f"{name}, read as {number(recipe.given[name])}")
        for name in recipe.unquoted:
            yield hit_whole(rules.UNQUOTED, f"{name}: no")
        for said in refused(self.run):
            yield hit_whole(rules.REFUSED, said)


def refused(run: Run) -> Iterator[str]:
    """Settings that TRL, transformers or PEFT refuse together."""
    recipe = run.recipe
    get = recipe.get
    if get("bf16") and get("fp16"):
        yield "bf16 and fp16 are both on"
    if get("load_in_4bit") and get("load_in_8bit"):
        yield "load_in_4bit and load_in_8bit are both on"
    if (get("load_in_4bit") or get("load_in_8bit")) and recipe.method == "full" and recipe.of_trl:
        yield "the model is loaded in 4 or 8 bits, and without use_peft there is nothing to train"
    if get("packing") and get("max_length") is None:
        yield "packing needs a max_length"
    if get("eos_token") and run.vocabulary and get("eos_token") not in run.vocabulary:
        yield f"eos_token {get('eos_token')} is no token of {run.model or 'the tokenizer'}"
    if get("padding_free") and not get("packing") and get("max_length") is not None:
        yield "padding_free without packing needs max_length: null"
    if "lm_head" in targets(run):
        yield "lm_head is among the target modules: TRL computes the loss past it"
    if get("load_best_model_at_end") and get("save_strategy") != "best":
        evaluates, saves = get("eval_strategy"), get("save_strategy")
        steps = get("eval_steps") or get("logging_steps")
        if evaluates != saves:
            yield f"load_best_model_at_end with eval_strategy {evaluates} and save_strategy {saves}"
        elif saves == "steps" and steps >= 1 and get("save_steps") % steps:
            yield f"load_best_model_at_end with save_steps {get('save_steps')} and eval_steps {steps}"


def targets(run: Run) -> list[str]:
    """The target modules that are named one by one; [] for all-linear, a pattern, or none."""
    asked = run.recipe.get("lora_target_modules")
    return [name for name in asked if name != "all-linear"] if isinstance(asked, list) else []


class Adapter(Check):
    """Rank, alpha, targets, 4 bits."""

    def end(self) -> Iterator[Hit]:
        recipe = self.run.recipe
        if recipe is None or not (recipe.about_lora or recipe.method == "lora"):
            return
        if recipe.of_trl and "use_peft" not in recipe.given:
            yield hit_whole(rules.NOT_USED, f"{', '.join(recipe.about_lora)}, but no use_peft")
        rank, alpha = recipe.get("lora_r"), recipe.get("lora_alpha")
        if not rules.RANKS[0] <= rank <= rules.RANKS[1]:
            yield hit_whole(rules.RANK, f"rank {rank:,}")
        low, high = rules.ALPHA_TO_RANK
        if not (low <= alpha / rank <= high or alpha in rules.FIXED_ALPHAS or recipe.get("use_rslora")):
            yield hit_whole(
                rules.ALPHA, f"alpha {number(alpha)} and rank {rank}: alpha / r is {number(alpha / rank)}"
            )
        if missing := missing_targets(self.run):
            yield hit_whole(rules.TARGET, missing)
        says_how = recipe.of_trl or any("bnb_4bit" in name for name in recipe.given)
        kind, computed = recipe.get("bnb_4bit_quant_type"), recipe.compute_dtype
        if recipe.four_bit and says_how and (kind != "nf4" or computed == "float32"):
            yield hit_whole(rules.NOT_QLORA, f"4 bits as {kind}, computed in {computed}")


def missing_targets(run: Run) -> str:
    """The target modules that the model has not, in words; "" where all are there or nobody knows."""
    asked = run.recipe.get("lora_target_modules")
    if isinstance(asked, str) and re.fullmatch(r"\w+(\s*,\s*\w+)+", asked):
        return f"{asked!r} is one text, which PEFT takes for a pattern: make it a list"
    if (config := config_of(run)) is None or not targets(run):
        return ""
    from labsupport.configs import architectures
    from labsupport.sizes import counting

    paths = [f"layers.0.{path}" for path in architectures.of(config).layers.values()]
    known = [*paths, *counting.in_block(config), *HEADS]
    missing = [
        name for name in targets(run) if not any(path == name or path.endswith(f".{name}") for path in known)
    ]
    return f"{', '.join(missing)}: {run.model} has {', '.join(counting.in_block(config))}" if missing else ""


class Schedule(Check):
    """Learning rate, epochs, steps, warm-up, batch."""

    def end(self) -> Iterator[Hit]:
        recipe = self.run.recipe
        if recipe is None:
            return
        yield from self.of_rate()
        if recipe.method == "lora" and recipe.batch > rules.LARGEST_BATCH:
            yield hit_whole(rules.BATCH, f"{recipe.batch:,} rows an optimizer step")
        if not self.run.rows:
            return
        steps, epochs = schedule(self.run)
        fed = f"{rows_fed(self.run):,} {'packed ' if recipe.get('packing') else ''}rows"
        least, most = rules.EPOCHS
        if epochs > most:
            yield hit_whole(rules.MANY_EPOCHS, f"{number(epochs)} epochs over {fed}")
        elif epochs < least and "streaming" not in recipe.given:
            yield hit_whole(rules.PART, f"{counted(steps)} of {recipe.batch:,} rows, of {fed}")
        if steps < FEWEST_STEPS:
            yield hit_whole(rules.FEW_STEPS, f"{counted(steps)} in all: {fed}, {recipe.batch:,} a step")
        warmup = recipe.get("warmup_steps")
        taken = warmup * steps if warmup < 1 else warmup
        if taken > rules.WARMUP_SHARE * steps and taken > 1:
            yield hit_whole(rules.WARMUP, f"{number(taken)} of {counted(steps)} are warm-up")

    def of_rate(self) -> Iterator[Hit]:
        """The learning rate, by what is trained. Of the half of a script only what no method would want."""
        recipe, rate = self.run.recipe, self.run.recipe.get("learning_rate")
        bounds = rules.HIGH_FOR_FULL if recipe.method == "full" else rules.HIGH_FOR_LORA
        if rate > believed(bounds, parameters_of(self.run)):
            what = {"lora": "for LoRA", "full": "for a full fine-tune", None: "for any method"}[recipe.method]
            yield hit_whole(rules.HIGH, f"learning rate {number(rate)} {what}")
        elif recipe.method == "lora" and rate < rules.LOW_FOR_LORA:
            given = "" if "learning_rate" in recipe.given else ", TRL's default, for none is given"
            yield hit_whole(rules.LOW, f"learning rate {number(rate)} for LoRA{given}")


class WithData(Check):
    """What the loss is taken over, and columns, against the form of the rows."""

    told = False  # once is enough, whatever the number of rows

    @functools.cached_property
    def no_mask(self) -> str:
        """What the template lacks for assistant_only_loss: the same for all rows."""
        return no_assistant_mask(self.run)

    def see(self, record: Record) -> Iterator[Hit]:
        recipe = self.run.recipe
        if recipe is None or self.told:
            return
        field = recipe.get("dataset_text_field")
        if record.form == "text" and field not in record.raw:
            self.told = True
            columns = ", ".join(map(str, record.raw))
            yield hit(rules.TEXT_FIELD, record, f"no column {field!r}, but {columns}")
        elif recipe.get("assistant_only_loss"):
            bare = record.form == "text" or not record.chat
            if why := "the rows are no conversations" if bare else self.no_mask:
                self.told = True
                yield hit_whole(rules.ASSISTANT_ONLY, why)

    def end(self) -> Iterator[Hit]:
        recipe, run = self.run.recipe, self.run
        if recipe is None:
            return
        if recipe.get("completion_only_loss") and run.form not in WITH_COMPLETION:
            yield hit_whole(rules.COMPLETION_ONLY, f"completion_only_loss: true with {run.form} rows")
        if recipe.get("packing") and recipe.get("packing_strategy") == "wrapped":
            yield hit_whole(rules.WRAPPED, "packing_strategy: wrapped")
        asks = recipe.get("eval_strategy") != "no"
        elsewhere = {"dataset_test_split", "test_split_size", "datasets"} & set(recipe.given)
        if asks and run.eval is None and not elsewhere:
            yield hit_whole(rules.NO_EVAL_FILE, f"eval_strategy: {recipe.get('eval_strategy')}")
        elif run.eval is not None and not asks and not recipe.unquoted:
            yield hit_whole(rules.NEVER_EVALUATED, "eval_strategy: no")


def no_assistant_mask(run: Run) -> str:
    """Why TRL cannot tell what the assistant says, in words; "" where it can or nobody knows."""
    if run.tokenizer is None:
        return ""
    from labsupport.token_checks import trainer_view

    tokenizer = trainer_view.as_trained(run.tokenizer, run.recipe)
    if tokenizer.chat_template is None:
        return "the tokenizer has no chat template"
    try:
        trainer_view.training_template(tokenizer, run.recipe)
    except ValueError:
        return "the chat template has no generation markers and is none that TRL knows"
    return ""


class WithModel(Check):
    """Precision and length, against the model and the card."""

    def end(self) -> Iterator[Hit]:
        from labsupport.sizes import gpus

        recipe, run = self.run.recipe, self.run
        if recipe is None:
            return
        card = None if run.gpu is None else gpus.find(run.gpu)
        old = card is not None and card.capability < (8, 0)
        if old and recipe.bf16 and not recipe.get("fp16") and not recipe.get("use_cpu"):
            said = "bf16 is on by default" if recipe.get("bf16") is None else "bf16: true"
            yield hit_whole(rules.NO_BF16, f"{card.sold_as}: {said}")
        if recipe.get("fp16") and not recipe.get("bf16") and not old and BF16_MODELS.search(run.model or ""):
            # Without --gpu it may be one that has nothing else.
            rule = rules.FP16 if card else dataclasses.replace(rules.FP16, severity="note")
            yield hit_whole(rule, f"fp16: true with {run.model}")
        positions = (config_of(run) or {}).get("max_position_embeddings")
        fed = longest_fed(run)
        if positions and fed and fed > positions:
            yield hit_whole(
                rules.CONTEXT, f"{fed:,} tokens in a row; {run.model} has {positions:,} positions"
            )


def longest_fed(run: Run) -> int | None:
    """Tokens of the longest row that goes into the model; None where no row was turned into tokens."""
    length = run.recipe.get("max_length")
    if run.recipe.get("packing"):
        return length
    if not run.longest:
        return None
    return run.longest if length is None else min(length, run.longest)


CHECKS = (Named, Adapter, Schedule, WithData, WithModel)
__all__ = ["CHECKS", "RULES"]
