"""Two skills for one base: tickets read into JSON, and codes known by heart. An adapter is trained on either,
on both, or on one after the other; any model is scored on both, and on text that neither is about."""

from __future__ import annotations

import random
from pathlib import Path

import torch

from labsupport.evaluation import general_text
from labsupport.format_runs import prompt_formats
from labsupport.merge_runs import training
from labsupport.models import chat
from labsupport.models.modes import evaluation_mode
from labsupport.tasks import facts, general, tickets
from labsupport.training import prefixes

BATCH = training.BATCH
TICKETS = 256
FACTS, EPOCHS = 40, 12  # 60 steps, after which nearly all of them are stored

Batch = list[dict]  # BATCH rows of prompt and completion


# ---------------------------------------------------------------- trained


def batches(skill: str, seed: int) -> list[Batch]:
    """The batches of a skill ("tickets", "facts", or "other facts", which are the next as many), in the order
    in which they are learned: 32 of tickets, each seen once; EPOCHS times all facts, shuffled anew each time.

    ValueError for another skill.
    """
    shuffle = random.Random(seed)
    if skill == "tickets":
        rows, epochs = tickets.as_prompt_completion(tickets.load("train")[:TICKETS]), 1
    elif skill in ("facts", "other facts"):
        rows, epochs = facts.as_prompt_completion(known(skill)), EPOCHS
    else:
        raise ValueError(f"skill is {skill!r}: give tickets, facts or other facts.")
    order = [row for _ in range(epochs) for row in shuffle.sample(rows, len(rows))]
    return [order[start : start + BATCH] for start in range(0, len(order), BATCH)]


def mixed(*skills: list[Batch], seed: int) -> list[Batch]:
    """The batches of all skills in one shuffled order: a batch still holds one skill."""
    every = [batch for skill in skills for batch in skill]
    return random.Random(seed).sample(every, len(every))


def train_all(seed: int, folder: Path) -> tuple[dict[str, Path], dict[str, list[float]]]:
    """Train all five adapters: the folder of each by its name, and the losses of its steps.

    "tickets", "facts" and "other facts" alone; "both": as many steps as the first two; "one after the other":
    "tickets" trained on with the batches of "facts". Order and first weights differ between them and follow
    from the seed.
    """
    alone = {skill: batches(skill, seed) for skill in ("tickets", "facts", "other facts")}
    pair = alone["tickets"], alone["facts"]
    orders = alone | {"both": mixed(*pair, seed=seed), "one after the other": alone["facts"]}
    folders = {name: Path(folder) / name.replace(" ", "_") for name in orders}
    losses = {}
    for number, (name, order) in enumerate(orders.items()):
        start = folders["tickets"] if name == "one after the other" else None
        losses[name] = train(order, len(orders) * seed + number, folders[name], start)
    return folders, losses


def train(order: list[Batch], seed: int, folder: Path | str, start: Path | str | None = None) -> list[float]:
    """Train an adapter on the batches in their order and save it in `folder`; every step's loss, nats a
    trained token.

    LoRA of rank 16 on all linear layers beside the profile's base in float32, products in bfloat16; one step
    a batch, the course's rate and recipe for a processor. start: the folder of an adapter that is trained on
    instead of a new one. seed: of a new adapter's first weights.
    """
    from peft import LoraConfig, PeftModel, get_peft_model

    from labsupport.models import base_model

    model, tokenizer = base_model.load(dtype="float32", device="cpu")
    torch.manual_seed(seed)
    if start:
        adapted = PeftModel.from_pretrained(model, str(start), is_trainable=True)
    else:
        config = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
        adapted = get_peft_model(model, config)
    run = trainer(adapted, tokenizer, order, seed)
    run.train()
    run.accelerator.unwrap_model(run.model).save_pretrained(folder, save_embedding_layers=False)
    return [round(float(entry["loss"]), 4) for entry in run.state.log_history if "loss" in entry]


def trainer(adapted, tokenizer, order: list[Batch], seed: int):
    """An SFTTrainer that takes the batches as they come, as `training.trainer` is set for the rest."""
    from datasets import Dataset
    from transformers import PrinterCallback
    from trl import SFTTrainer

    from labsupport.core import upstream

    upstream.score_only_labels()
    result = SFTTrainer(
        model=adapted,
        args=training.settings(len(order), seed, train_sampling_strategy="sequential"),
        train_dataset=Dataset.from_list([row for batch in order for row in batch]),
        processing_class=tokenizer,
    )
    result.remove_callback(PrinterCallback)
    prefixes.share(result)
    return result


# ---------------------------------------------------------------- scored


def known(skill: str) -> list[dict]:
    """The facts that "facts" or "other facts" is about."""
    first = 0 if skill == "facts" else FACTS
    return facts.load(facts.SIZES[0])[first : first + FACTS]


def asked(every: int = 3) -> list[dict]:
    """Every so many-th family of test_lookalike, a row each."""
    return prompt_formats.test_sets()["test_lookalike"][::every]


def passages(every: int = 8) -> list[dict]:
    """Every so many-th of the passages of general text that are there to be scored."""
    return general_text.held_out(general.load())[0][::every]


@torch.no_grad()
def scored(model, tokenizer, messages: list[dict], texts: list[dict], before: list[torch.Tensor]) -> dict:
    """A model on everything, products in bfloat16; columns in the order of the rows.

    `tickets`: `prompt_formats.scored` of the messages; `facts`: `recalled`; `general`: of each text `tokens`,
    and over these summed `nll` and KL(before ‖ model) as `kl`, nats. before: `general_text.logits` of the
    base on the texts, in bfloat16 products, too.
    """
    with general_text.mixed_precision():
        found = {"tickets": prompt_formats.scored(model, tokenizer, "template", messages)}
        found["facts"] = recalled(model, tokenizer, known("facts"))
        rows = general_text.compared(model, tokenizer, texts, before)
    columns = {name: [float(f"{row[name]:.5g}") for row in rows] for name in ("nll", "kl")}
    return found | {"general": {"tokens": [row["tokens"] for row in rows]} | columns}


@torch.no_grad()
def recalled(model, tokenizer, rows: list[dict]) -> dict[str, list]:
    """What a model knows of facts, teacher-forced: for each `nll`, of its code in nats without the end of the
    turn, and `right`, how many of the 8 symbols were the first choice."""
    examples = []
    for row in rows:
        front = tokenizer.apply_chat_template(
            facts.prompt(row["key"]), add_generation_prompt=True, return_dict=True
        )["input_ids"]
        code = tokenizer(facts.answer(row), add_special_tokens=False)["input_ids"]
        examples.append(chat.Example(front + code, len(front), facts.answer(row), []))
    found: dict[str, list] = {"nll": [0.0] * len(rows), "right": [0] * len(rows)}
    with evaluation_mode(model):
        for i, logits in prefixes.logits_of_answers(model, tokenizer, examples, 2 * BATCH):
            targets = torch.tensor(examples[i].targets)
            loss = torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
            found["nll"][i] = round(loss.item(), 4)
            found["right"][i] = int((logits.argmax(-1) == targets).sum())
    return found
