"""Run folders made by hand: log, adapter, rows and settings, as a test wants them. Nothing is trained."""

import json
import math
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

from labsupport.models import base_model

HIDDEN, LAYERS, RANK = 64, 2, 4
MODULES = ("q_proj", "v_proj")
SENTENCES = (
    "The {thing} that I ordered last week has a broken zip and I would like to send it back to you.",
    "Could you please tell me whether the {thing} is also made in a larger size than the one in the shop?",
    "My invoice for the {thing} shows a sum that differs from what your confirmation mail had told me.",
    "I moved house on Monday, so the {thing} has to go to another address than the one that I gave.",
    "Is there any chance that the {thing} gets here before we leave for the hills on Friday evening?",
)
THINGS = (
    "tent", "stove", "jacket", "rope", "lamp", "boots", "mug", "map", "whistle", "poncho", "sledge",
    "hammock",
    "kettle", "compass", "tarp", "saw", "axe", "scarf", "towel", "cooler",
)  # fmt: skip
LABELS = ("return", "question", "payment", "address", "delivery")


def ticket_rows(count: int, offset: int = 0) -> list[dict]:
    """Conversations, no two alike, with a label that follows from the sentence."""
    rows = []
    for number in range(offset, offset + count):
        kind, thing = number % len(SENTENCES), THINGS[number // len(SENTENCES) % len(THINGS)]
        text = SENTENCES[kind].format(thing=thing) + f" This is about parcel {number * 7919 + 10007}."
        rows.append(conversation(text, f'{{"label":"{LABELS[kind]}","parcel":"{number * 7919 + 10007}"}}'))
    return rows


def conversation(asked: str, answered: str) -> dict:
    """A row of prompt and completion as messages."""
    return {
        "prompt": [{"role": "user", "content": asked}],
        "completion": [{"role": "assistant", "content": answered}],
    }


def with_ids(rows: list[dict], start: str = "e") -> list[dict]:
    return [{"id": f"{start}{number}", **row} for number, row in enumerate(rows)]


# ---------------------------------------------------------------- logs


def log_of(losses, rate=2e-4, norms=None, evals=(), epochs=2.0, every=5) -> dict:
    """A trainer_state.json. losses: one a line of `every` steps; norms: gradient norms; evals: losses of the
    evaluation, spread over the run."""
    lines = []
    steps = every * len(losses)
    for number, loss in enumerate(losses, start=1):
        norm = norms[number - 1] if norms is not None else 0.8
        step = number * every
        lines.append(
            {
                "loss": loss,
                "grad_norm": norm,
                "learning_rate": rate,
                "step": step,
                "epoch": epochs * step / steps,
            }
        )
    for number, loss in enumerate(evals, start=1):
        step = number * steps // len(evals)
        lines.append({"eval_loss": loss, "step": step, "epoch": epochs * step / steps})
    lines.sort(key=lambda line: line["step"])
    return {"log_history": lines, "global_step": steps, "epoch": epochs, "num_train_epochs": int(epochs)}


def falling(count=20, start=2.5, end=0.2, noise=0.02, speed=4.0) -> list[float]:
    """Losses as of a run that went well: fast at first, then level, never smooth."""
    shape = (math.exp(-speed * place / (count - 1)) for place in range(count))
    wiggle = (noise * math.sin(12.9 * place) for place in range(count))
    return [end + (start - end) * one + extra for one, extra in zip(shape, wiggle, strict=True)]


# ---------------------------------------------------------------- adapters and folders


def adapter(size=1e-2, rank=RANK, modules=MODULES, hidden=HIDDEN) -> dict:
    """Tensors of an adapter. size: standard deviation of B's entries; 0 for B as it begins."""
    torch.manual_seed(0)
    tensors = {}
    for layer in range(LAYERS):
        for module in modules:
            name = f"base_model.model.model.layers.{layer}.self_attn.{module}"
            tensors[f"{name}.lora_A.weight"] = (torch.rand(rank, hidden) * 2 - 1) / math.sqrt(hidden)
            tensors[f"{name}.lora_B.weight"] = size * torch.randn(hidden, rank)
    return tensors


CONFIG = {
    "peft_type": "LORA",
    "r": RANK,
    "lora_alpha": 2 * RANK,
    "init_lora_weights": True,
    "base_model_name_or_path": None,
    "target_modules": list(MODULES),
}


def made(
    folder: Path,
    state=None,
    tensors=None,
    config=None,
    arguments=None,
    train=None,
    asked=None,
    replies=None,
    tokenizer=True,
) -> Path:
    """A run folder. What is None is as in a run that went well, what is False is left out."""
    folder.mkdir(parents=True, exist_ok=True)
    if state is not False:
        (folder / "trainer_state.json").write_text(json.dumps(state or log_of(falling())))
    if tensors is not False:
        save_file(adapter() if tensors is None else tensors, folder / "adapter_model.safetensors")
        (folder / "adapter_config.json").write_text(json.dumps(CONFIG | (config or {})))
    if arguments is not False:
        from trl import SFTConfig

        torch.save(
            SFTConfig(
                output_dir="run",
                use_cpu=True,
                bf16=False,
                **({"activation_checkpointing": False} | (arguments or {})),
            ),
            folder / "training_args.bin",
        )
    for name, rows in (("train", train), ("eval", asked), ("replies", replies)):
        if rows:
            (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if tokenizer:
        for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
            shutil.copy(base_model.bundled_folder() / name, folder / name)
    return folder


def snapshot(folder: Path) -> dict:
    """Every file below a folder with its bytes and time, to see that nothing changed."""
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()
    }
