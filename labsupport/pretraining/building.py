"""Makes `data/tiny_base` anew: corpus, tokenizer, training, record."""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from pathlib import Path

from labsupport.core import files
from labsupport.models import tiny_base
from labsupport.pretraining import corpus, prose, tokenizer, training

CARD = "README.md"


def build(folder: Path = tiny_base.FOLDER) -> None:
    """Train the model and put it in the place of `folder`, all or nothing; the card is kept.

    Takes about seven minutes of a core that knows bfloat16 (AVX512-BF16), several times that on others.
    """
    say("Reading the texts")
    texts = corpus.build()
    own = tokenizer.train(texts)
    train = {part: tokenizer.encode(own, texts.train[part]) for part in corpus.PARTS}
    held_out = {part: tokenizer.encode(own, texts.held_out[part]) for part in corpus.PARTS}
    steps = training.batches(train, own.pad_token_id)
    model, log = trained(own, steps)
    with files.folder_atomically(folder) as unfinished:
        model.save_pretrained(unfinished)
        own.save_pretrained(unfinished)
        (unfinished / "model.safetensors").chmod(0o644)  # it is saved for its owner's eyes only
        if (folder / CARD).is_file():
            (unfinished / CARD).write_bytes((folder / CARD).read_bytes())
        made = record(unfinished, model, own, held_out, steps, log)
        text = json.dumps(made, indent=1) + "\n"
        (unfinished / tiny_base.RECORD).write_text(text, encoding="utf-8")


def trained(own, steps: list) -> tuple:
    """The trained model and the log of its training, with one thread and torch's deterministic operations."""
    import torch

    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    try:
        model, log = training.new_model(own), []
        for entry in training.train(model, steps):
            say(f"step {entry['step']} of {len(steps)}: loss {entry['loss']:.3f}, {entry['seconds']:.0f} s")
            log.append(entry)
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(strict)
    return model, log


def record(folder: Path, model, own, held_out: dict, steps: list, log: list[dict]) -> dict:
    """What belongs to the files in `folder`: of what, how and with what result the model was trained."""
    import tokenizers
    import torch
    import transformers

    return {
        "seeds": {"corpus": corpus.SEED, "training": training.SEED},
        "parameters": model.num_parameters(),
        "versions": {
            "python": platform.python_version(),
            "tokenizers": tokenizers.__version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        "prose_from": prose.versions(),
        "batches_sha256": digest(steps),
        "steps": len(steps),
        "tokens": log[-1]["tokens"],
        "processor_seconds": log[-1]["seconds"],
        "held_out_nats_a_token": {
            part: round(training.held_out_loss(model, rows, own.pad_token_id), 4)
            for part, rows in held_out.items()
        },
        "held_out_answers_right": {
            part: round(training.answers_right(model, own, held_out[part]), 4) for part in corpus.CHATS
        },
        "log": log,
        "sha256": {name: files.sha256(folder / name) for name in tiny_base.FILES},
    }


def digest(steps: list) -> str:
    """SHA-256 of the ids and labels of all steps: of all that the model is trained on, in its order."""
    result = hashlib.sha256()
    for ids, labels in steps:
        result.update(ids.numpy().tobytes())
        result.update(labels.numpy().tobytes())
    return result.hexdigest()


def say(text: str) -> None:
    """Progress goes to standard error."""
    print(text, file=sys.stderr, flush=True)
