"""Training code tried out on a CPU with a tiny random model: what settings, rows, layers and reply it makes.

Each function takes one of a learner's, calls it with all that it asks for, and describes what came back.
"""

from __future__ import annotations

import copy
import functools
import tempfile

from labsupport.chat_formats import trainer_rows
from labsupport.core import upstream
from labsupport.models import base_model

NOTES = [
    "The parcel came late, and the box was open.",
    "Two tents, one pole.",
    "Please send the invoice again.",
]
CONVERSATIONS = [
    [{"role": "user", "content": "7 x 8?"}, {"role": "assistant", "content": "56"}],
    [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Capital of Peru?"},
        {"role": "assistant", "content": "Lima."},
    ],
]


@functools.cache
def _originals():
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base_model.path())
    return trainer_rows.tiny_llama(len(tokenizer)).eval(), tokenizer


def _parts():
    """A tiny model and the course's tokenizer, which a snippet may change."""
    return copy.deepcopy(_originals())


def _built(fn, *given):
    """What a snippet returns, given a folder to write to after whatever else."""
    upstream.quiet_known_noise()
    upstream.guard_4bit_on_cpu()
    with tempfile.TemporaryDirectory() as folder, trainer_rows.quiet_config():
        result = fn(*given, folder)
    if result is None:
        raise TypeError("it returned None: is a return statement missing?")
    return result


def settings(fn) -> dict:
    """Of fn(folder), an SFTConfig: what it says of the run."""
    config = _built(fn)
    return {
        "epochs": config.num_train_epochs,
        "longest row": config.max_length,
        "warm-up": config.warmup_steps,
        "evaluates": str(getattr(config.eval_strategy, "value", config.eval_strategy)),
        "on the processor": bool(config.use_cpu),
    }


def packed_rows(fn) -> dict:
    """Of fn(model, tokenizer, dataset, folder), a trainer: how long its rows are, and how they begin.

    The dataset has the column "note", and another text column beside it.
    """
    from datasets import Dataset

    notes = Dataset.from_dict({"text": ["not this column"] * len(NOTES), "note": NOTES})
    model, tokenizer = _parts()
    trainer = _built(fn, model, tokenizer, notes)
    begins = tokenizer.decode(trainer_rows.rows_of(trainer)[0][0][:4])
    return {"tokens of each row": trainer_rows.lengths(trainer), "begins": begins}


def learned(fn) -> list[dict]:
    """Of fn(model, tokenizer, conversations, folder), a trainer: each row as text, and what is learned of it,
    without the line break at its end."""
    model, tokenizer = _parts()
    rows = trainer_rows.rows_of(_built(fn, model, tokenizer, copy.deepcopy(CONVERSATIONS)))
    labels_learned = [[label for label in labels if label != -100] for _, labels in rows]
    return [
        {"learned": tokenizer.decode(labels).strip(), "row": tokenizer.decode(ids).strip()}
        for (ids, _), labels in zip(rows, labels_learned, strict=True)
    ]


def loaded(fn) -> dict:
    """Of fn(folder), a model loaded from there: what its linear layers are."""
    import torch

    def load(folder):
        _parts()[0].to(torch.bfloat16).save_pretrained(folder)
        return fn(folder)

    model = _built(load)
    layer = model.model.layers[0].mlp.down_proj
    state = getattr(layer.weight, "quant_state", None)
    return {
        "bits": 4 if state is not None else 8 * layer.weight.element_size(),
        "type": getattr(state, "quant_type", None),
        "scales quantised again": bool(getattr(state, "nested", False)),
        "computes in": str(getattr(layer, "compute_dtype", None)),
        "embeddings": str(model.get_input_embeddings().weight.dtype),
    }


def reply(fn) -> list[int]:
    """What fn(model, tokenizer, messages) returns, as numbers."""
    upstream.quiet_known_noise()
    model, tokenizer = _parts()
    return [int(token) for token in fn(model, tokenizer, copy.deepcopy(CONVERSATIONS[1][:2]))]
