"""Makes a run folder of the clinic: a real SFTTrainer on the rows of a case, and an evaluation of what it
made.

Nothing in the folder names the kind: it trains in a folder called "run" elsewhere, and the files are moved.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

from labsupport.broken_runs import asking, case_rows, kinds
from labsupport.chat_formats import loss_masks
from labsupport.core import files, upstream
from labsupport.models import base_model
from labsupport.models.chat import IGNORED

BASES = {kinds.TINY: "data/tiny_base"}  # to a name that base_model knows
LONGEST = 512  # tokens of a row; no row has as many


def make(kind: str, seed: int, folder: Path | str, base: str = kinds.TINY, task: str | None = None) -> dict:
    """Train the case of a kind and a seed and write its run folder; returns the case (see kinds.case).

    The folder, which is replaced if it is there, gets what trainer.save_model and save_state write, and
    train.jsonl, eval.jsonl and replies.jsonl, the replies in the order in which they were generated. LabError
    for an unknown kind or base.
    """
    case, folder = kinds.case(kind, seed, base, task), Path(folder)
    with tempfile.TemporaryDirectory(prefix="lab-") as scratch:
        run = Path(scratch) / "run"
        train(case, run)
        rows = case_rows.evaluation(case)
        written, _ = evaluate(case, run, rows)
        lines = [{"id": row["id"], "reply": text} for row, (text, _) in zip(rows, written, strict=True)]
        write_lines(run / "replies.jsonl", lines)
        with files.folder_atomically(folder) as unfinished:
            shutil.copytree(run, unfinished, dirs_exist_ok=True)
    return case


def write_lines(path: Path, rows: list[dict]) -> None:
    """A JSON object a line."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


# ---------------------------------------------------------------- the model


def load(base: str):
    """(model, tokenizer) of a base, in float32 on the CPU, under a name that says nothing of this machine."""
    name = BASES.get(base, base)
    model, tokenizer = base_model.load(name, dtype="float32", device="cpu")
    model.name_or_path = model.config._name_or_path = name
    return model, tokenizer


def load_run(case: dict, folder: Path):
    """(model with the adapter of a run folder, tokenizer), as an evaluation script loads them."""
    from peft import PeftModel

    model, tokenizer = load(case["base"])
    return PeftModel.from_pretrained(model, str(folder)).eval(), tokenizer


# ---------------------------------------------------------------- training


def train(case: dict, folder: Path) -> None:
    """Train a case; adapter, tokenizer, log, arguments and rows are then in the folder."""
    from transformers.trainer_utils import set_seed

    upstream.quiet_known_noise()
    model, tokenizer = load(case["base"])
    set_seed(case["seed"])  # decides the adapters' first weights
    built = trainer(case, model, tokenizer, folder)
    built.train()
    built.save_model(str(folder))
    built.save_state()
    rows, asked = in_form(case, tokenizer)
    write_lines(folder / "train.jsonl", rows)
    write_lines(folder / "eval.jsonl", asked)


def trainer(case: dict, model, tokenizer, folder: Path):
    """The untrained SFTTrainer of a case, broken as the case says."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import PrinterCallback
    from trl import SFTConfig, SFTTrainer

    upstream.score_only_labels()
    rows, asked = in_form(case, tokenizer)
    targets = case["targets"]
    result = SFTTrainer(
        model=model,
        args=SFTConfig(**arguments(case, tokenizer), output_dir=str(folder)),
        train_dataset=Dataset.from_list(rows),
        eval_dataset=Dataset.from_list(asked),
        processing_class=tokenizer,
        peft_config=LoraConfig(
            r=case["rank"],
            lora_alpha=2 * case["rank"],
            target_modules=targets if targets == "all-linear" else targets.split(","),
            task_type="CAUSAL_LM",
        ),
    )
    result.remove_callback(PrinterCallback)
    if case["end_masked"] == "collator":
        result.data_collator = EndMasked(result.data_collator, tokenizer.eos_token_id)
    if not case["input_gradients"]:
        without_input_gradients(result)
    return result


def arguments(case: dict, tokenizer) -> dict:
    """The arguments of SFTConfig."""
    return {
        "learning_rate": case["learning_rate"],
        "num_train_epochs": case["epochs"],
        "lr_scheduler_type": case["schedule"],
        "warmup_steps": 0.1,
        "per_device_train_batch_size": case["batch"],
        "per_device_eval_batch_size": 8,
        "max_length": cutting_length(case, tokenizer) if case["cut"] else LONGEST,
        "completion_only_loss": not case["loss_on_prompt"],
        "activation_checkpointing": case["checkpointing"],
        "activation_checkpointing_kwargs": {"use_reentrant": True} if case["checkpointing"] else None,
        "eval_strategy": "steps",
        "eval_steps": max(1, case["steps"] // 6),
        "logging_steps": max(1, round(case["steps"] / case["points"])),
        "logging_first_step": True,
        "save_strategy": "no",
        "use_cpu": True,
        "bf16": False,
        "report_to": "none",
        "disable_tqdm": True,
        "seed": case["seed"],
    }


def in_form(case: dict, tokenizer) -> tuple[list[dict], list[dict]]:
    """(training rows, evaluation rows) in the form in which the case hands them to SFTTrainer, with ids."""
    rows, asked = case_rows.training(case), case_rows.evaluation(case)
    if case["format"] != "template":
        rows = [as_strings(tokenizer, row, case["format"]) for row in rows]
    if case["end_masked"] == "labels":
        rows = [without_end(tokenizer, row) for row in rows]
    if case["loss_on_prompt"] == "messages":
        rows, asked = ([as_messages(row) for row in some] for some in (rows, asked))
    return rows, asked


def as_strings(tokenizer, row: dict, form: str) -> dict:
    """A row as text, its prompt in a format of asking.FORMATS."""
    answer = asking.LEAD.get(form, "") + asking.expected(row)
    return {"id": row["id"], "prompt": asking.prompt_text(tokenizer, row, form), "completion": answer}


def as_messages(row: dict) -> dict:
    """A row as one conversation, of which TRL trains every token."""
    return {"id": row["id"], "messages": row["prompt"] + row["completion"]}


def without_end(tokenizer, row: dict) -> dict:
    """A row as ids and labels, the end of the turn not learned: what a collator makes of it that masks the
    pad token, where pad and end are the same."""
    ids, labels = loss_masks.prompt_and_completion(tokenizer, row["prompt"], row["completion"])
    labels = [IGNORED if label == tokenizer.eos_token_id else label for label in labels]
    return {"id": row["id"], "input_ids": ids, "labels": labels}


def cutting_length(case: dict, tokenizer) -> int:
    """The max_length at which the case's share of training rows has no token of the answer left."""
    prompts = asking.prompt_ids(tokenizer, case_rows.training(case), "template")
    lengths = sorted(map(len, prompts), reverse=True)
    return lengths[round(case["cut"] * len(lengths)) - 1]


# ---------------------------------------------------------------- what is broken in the trainer


class EndMasked:
    """A collator that takes the end token out of the labels, as transformers' does where it is the pad
    token."""

    def __init__(self, collator, end: int):
        self.collator, self.end = collator, end

    def __call__(self, rows: list[dict]) -> dict:
        batch = self.collator(rows)
        batch["labels"] = batch["labels"].masked_fill(batch["labels"] == self.end, IGNORED)
        return batch


def without_input_gradients(trainer) -> None:
    """Take from a trainer with reentrant checkpointing what lets gradients reach the adapters. In place.

    transformers 5 asks for gradients of the embeddings whenever it turns checkpointing on, so today it takes
    code of one's own to break this: a hook that is removed, and, against PyTorch's error "element 0 of
    tensors does not require grad", the line that is often recommended, `loss.requires_grad_()`.
    """
    from transformers import TrainerCallback

    class NoHooks(TrainerCallback):
        def on_train_begin(self, args, state, control, model=None, **kwargs):
            model.get_input_embeddings()._forward_hooks.clear()

    compute_loss = trainer.compute_loss

    def hushed(model, *inputs, **options):
        result = compute_loss(model, *inputs, **options)
        return result.requires_grad_() if model.training else result

    trainer.add_callback(NoHooks())
    trainer.compute_loss = hushed


# ---------------------------------------------------------------- evaluation


def evaluate(case: dict, folder: Path, rows: list[dict]) -> tuple[list[tuple[str, bool]], dict]:
    """(replies, figures) of the case's own evaluation script on rows; see asking.replies and
    asking.judged."""
    model, tokenizer = load_run(case, folder)
    if not case["adapter_on"]:
        with model.disable_adapter():
            return asked(case, model, tokenizer, rows)
    return asked(case, model, tokenizer, rows)


def asked(case: dict, model, tokenizer, rows: list[dict]) -> tuple[list[tuple[str, bool]], dict]:
    """`evaluate` with a model that is there."""
    how = case["asked_format"], case["eval_batch"], case["padding_side"]
    written = asking.replies(model, tokenizer, rows, *how)
    nats = asking.losses(model, tokenizer, rows, case["asked_format"])
    return written, asking.judged(case["task"], rows, written, nats)
