"""The course's LoRA recipe on rows in any prompt format: same base, same adapters at the start, same order.

It differs from training.recipe in the rows and in the micro-batch of 8: what is compared are the formats.
"""

from __future__ import annotations

import copy

import torch

from labsupport.format_runs import prompt_formats
from labsupport.models import chat
from labsupport.tasks import tickets
from labsupport.training import prefixes

BATCH = 8
PACKED = 1024  # tokens of a packed sequence: 8 rows and a bit
SPECIALS = ("<|im_start|>", "<|im_end|>")
# These train on completions alone, so what the rows of a batch begin with is run once, as in the recipe.
ON_COMPLETIONS = (
    "template",
    "hand_rolled",
    "alpaca",
    "alpaca_dropped",
    "untrained_specials",
    "untrained_specials_trained",
)
# What an arm changes in the trainer's arguments. Batches of packed sequences are accumulated: in one piece
# their attention would need too much memory, and the gradient is the same.
ARGUMENTS = {
    "bfd_batch8": {
        "packing": True,
        "packing_strategy": "bfd",
        "max_length": PACKED,
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": BATCH,
    },
    "bfd_batch1": {
        "packing": True,
        "packing_strategy": "bfd",
        "max_length": PACKED,
        "per_device_train_batch_size": 1,
    },
    "wrapped": {
        "packing": True,
        "packing_strategy": "wrapped",
        "max_length": PACKED,
        "per_device_train_batch_size": 1,
    },
}


# ---------------------------------------------------------------- the rows of an arm


def training_rows(tokenizer, arm: str, rows: list[dict]) -> list[dict]:
    """The rows in the form in which an arm hands them to SFTTrainer."""
    if arm in ("hand_rolled", "alpaca", "alpaca_dropped"):
        return [
            {
                "prompt": prompt_formats.prompt(tokenizer, arm, row["text"]),
                "completion": prompt_formats.completion(arm, row),
            }
            for row in rows
        ]
    if arm in ("prerendered", "prerendered_bos"):
        front = prompt_formats.BOS if arm == "prerendered_bos" else ""
        return [{"text": front + rendered(tokenizer, row)} for row in rows]
    if arm in ("full_row_loss", "collator_pad_is_eos", "collator_other_pad"):
        examples = [chat.encode_example(tokenizer, row).ids for row in rows]
        return [{"input_ids": ids, "labels": labels(tokenizer, arm, ids)} for ids in examples]
    return tickets.as_prompt_completion(rows)


def rendered(tokenizer, row: dict) -> str:
    """A row's whole conversation by the chat template, as text."""
    messages = [*tickets.prompt(row["text"]), {"role": "assistant", "content": tickets.answer(row)}]
    return tokenizer.apply_chat_template(messages, tokenize=False)


def labels(tokenizer, arm: str, ids: list[int]) -> list[int]:
    """Every token of a row as label; in the collator arms as transformers' collator for language modelling
    makes them, which masks whatever equals the pad token."""
    if arm == "full_row_loss":
        return list(ids)
    from transformers import DataCollatorForLanguageModeling

    own = copy.deepcopy(tokenizer)
    if arm == "collator_other_pad":
        own.pad_token = own.unk_token
    batch = DataCollatorForLanguageModeling(own, mlm=False)([{"input_ids": list(ids)}])
    return batch["labels"][0].tolist()


def adding_bos(tokenizer):
    """A copy of the tokenizer that puts BOS before every text, as Llama's do."""
    from tokenizers.processors import TemplateProcessing

    own = copy.deepcopy(tokenizer)
    bos = prompt_formats.BOS
    own.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{bos} $A", special_tokens=[(bos, own.convert_tokens_to_ids(bos))]
    )
    return own


# ---------------------------------------------------------------- the model and the trainer


@torch.no_grad()
def untrain_specials(model, tokenizer) -> None:
    """Give the template's two special tokens rows as new tokens have them: the mean of all rows of the tied
    embedding, plus noise of a hundredth of the rows' spread in each dimension. Changes the model in place."""
    table = model.get_input_embeddings().weight
    mean, spread = table.float().mean(0), table.float().std(0)
    generator = torch.Generator().manual_seed(0)
    for token in SPECIALS:
        noise = torch.randn(len(mean), generator=generator)
        table[tokenizer.convert_tokens_to_ids(token)] = (mean + 0.01 * spread * noise).to(table.dtype)


def plain_loss(model, inputs: dict, return_outputs: bool = False, num_items_in_batch=None) -> torch.Tensor:
    """The loss from the model's own logits, in place of SFTTrainer.compute_loss.

    TRL's multiplies by the head's weight itself, past the rows that PEFT trains of it: it stops with an
    AttributeError ('bias').
    """
    labels = inputs.pop("labels")[:, 1:].flatten()
    logits = model(**inputs, use_cache=False).logits[:, :-1].flatten(0, 1).float()
    loss = torch.nn.functional.cross_entropy(logits, labels, ignore_index=chat.IGNORED, reduction="sum")
    return loss / num_items_in_batch


def trainer(arm: str, rows: list[dict], seed: int, epochs: int = 1):
    """An untrained SFTTrainer of the arm on the rows: the recipe of the profile, in micro-batches of 8."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import PrinterCallback
    from trl import SFTConfig, SFTTrainer

    from labsupport.core import files, profiles, upstream
    from labsupport.models import base_model

    upstream.score_only_labels()
    profile = profiles.current()
    model, tokenizer = base_model.load()
    if arm.startswith("untrained_specials"):
        untrain_specials(model, tokenizer)
    arguments = {
        "learning_rate": profile.learning_rate,
        "num_train_epochs": epochs,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0.1,
        "adam_beta1": 0.6,
        "adam_beta2": 0.95,
        "per_device_train_batch_size": BATCH,
        "max_length": profile.max_length,
        "activation_checkpointing": False,
        "use_cpu": True,
        "bf16": profile.bf16,
        "logging_steps": 8,
        "logging_first_step": True,
        "report_to": "none",
        "disable_tqdm": True,
        "seed": seed,
        "output_dir": str(files.RUNS / "trainer"),
    } | ARGUMENTS.get(arm, {})
    adapters = {"r": 16, "lora_alpha": 32, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
    own_rows = arm == "untrained_specials_trained"
    if own_rows:
        adapters["trainable_token_indices"] = tokenizer.convert_tokens_to_ids(list(SPECIALS))
    torch.manual_seed(seed)  # decides the adapters' first weights
    result = SFTTrainer(
        model=model,
        args=SFTConfig(**arguments),
        train_dataset=Dataset.from_list(training_rows(tokenizer, arm, rows)),
        processing_class=adding_bos(tokenizer) if arm == "prerendered_bos" else tokenizer,
        peft_config=LoraConfig(**adapters),
    )
    result.remove_callback(PrinterCallback)
    if own_rows:
        result.compute_loss = plain_loss
        for module in result.model.modules():
            if hasattr(module, "trainable_tokens_delta"):  # PEFT asks it of every layer, and this has it not
                module.cast_input_dtype_enabled = True
    if arm in ON_COMPLETIONS:
        prefixes.share(result)
    return result


# ---------------------------------------------------------------- what a run was


def counted(trainer, epochs: int = 1) -> dict:
    """What the trainer trains on: sequences, tokens and labels an epoch; epochs; optimizer steps in all."""
    rows = trainer.train_dataset
    per_epoch = -(-len(rows) // trainer.args.train_batch_size)
    return {
        "sequences": len(rows),
        "tokens": sum(map(len, rows["input_ids"])),
        "trained_tokens": sum(label != chat.IGNORED for row in rows["labels"] for label in row),
        "epochs": epochs,
        "steps": -(-per_epoch // trainer.args.gradient_accumulation_steps) * epochs,
    }


def first_row(trainer, longest: int = 400) -> dict:
    """The first sequence that the trainer trains on, decoded: all of it, and only what has a label; each cut
    at so many characters, from the front."""
    tokenizer, row = trainer.processing_class, trainer.train_dataset[0]
    trained = [label for label in row["labels"] if label != chat.IGNORED]
    return {
        "text": tokenizer.decode(row["input_ids"])[-longest:],
        "trained": tokenizer.decode(trained)[-longest:],
        "end": row["input_ids"][-4:],
        "end_labels": row["labels"][-4:],
    }


def log(run) -> dict:
    """Logged steps and losses of a finished run (nats a trained token), and its mean loss."""
    steps, losses = run.losses()
    mean = next((entry["train_loss"] for entry in reversed(run.log) if "train_loss" in entry), None)
    return {
        "log_steps": steps,
        "losses": [round(loss, 4) for loss in losses],
        "train_loss": mean and round(float(mean), 4),
        "seconds": round(run.seconds),
    }
