"""A training of seconds, for the tests of recorded runs: a random two-layer Llama with LoRA.

`kill_at_every_moment` trains once a moment, in a forked process that kills itself then (SIGKILL).
"""

import functools
import os
import signal
import sys
from pathlib import Path

import torch
from datasets import Dataset, disable_progress_bars
from peft import LoraConfig
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PrinterCallback
from trl import SFTConfig, SFTTrainer

from labsupport.core import files
from labsupport.models import base_model, chat
from labsupport.tasks import tickets
from labsupport.training import checkpoints, run_store

NAME = "tiny"
VOCABULARY = 512  # the real ids modulo this: a step costs milliseconds
STEPS = 12  # with 16 rows and batches of 2: an epoch is 8 steps, checkpoints at 3, 6, 9, 12


@functools.cache
def train_rows() -> list[dict]:
    return tickets.load("train")


def tiny_model(seed: int = 0, **settings) -> LlamaForCausalLM:
    """A random Llama; with the real vocabulary it has 1.6 million parameters, else 33 thousand."""
    torch.manual_seed(seed)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    tokens = {"vocab_size": 49152, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
    config = {"num_key_value_heads": 2, "tie_word_embeddings": True, **sizes, **tokens, **settings}
    return LlamaForCausalLM(LlamaConfig(**config))


def tiny_trainer(tokenizer, rows=16, steps=STEPS, lora=None, model_seed=0, **arguments) -> SFTTrainer:
    """An untrained trainer. rows: a number or a list of rows; lora: changed settings, False for none."""
    torch.set_num_threads(1)
    disable_progress_bars()
    rows = train_rows()[:rows] if isinstance(rows, int) else rows
    settings = {"r": 4, "lora_alpha": 8, "lora_dropout": 0.1, "target_modules": "all-linear"} | (lora or {})
    defaults = {
        "output_dir": "unused",
        "learning_rate": 1e-2,
        "per_device_train_batch_size": 2,
        "train_sampling_strategy": "group_by_length",
        "logging_steps": 1,
        "disable_tqdm": True,
        "report_to": "none",
        "seed": 0,
        "bf16": False,
        "activation_checkpointing": False,
    }
    examples = [chat.encode_example(tokenizer, row) for row in rows]
    ids = [[i % VOCABULARY for i in e.ids] for e in examples]
    lengths = [e.prompt_length for e in examples]
    data = {"input_ids": ids, "labels": [chat.labels(*pair) for pair in zip(ids, lengths, strict=True)]}
    model = tiny_model(model_seed, vocab_size=VOCABULARY)
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(**defaults | {"max_steps": steps} | arguments, use_cpu=True),
        train_dataset=Dataset.from_dict(data),
        processing_class=tokenizer,
        peft_config=None if lora is False else LoraConfig(task_type="CAUSAL_LM", **settings),
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


# ---------------------------------------------------------------- dying at a chosen moment


def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)


def die_in_step(trainer, number: int) -> None:
    real = trainer.training_step

    def step(*args, **kwargs):
        if trainer.state.global_step == number:
            die()
        return real(*args, **kwargs)

    trainer.training_step = step


def die_in_checkpoint(trainer, step: int) -> None:
    """Weights and optimizer are on disk; the states of generators and trainer and the manifest are not."""
    real = trainer._save_rng_state
    trainer._save_rng_state = lambda folder: die() if trainer.state.global_step == step else real(folder)


def die_before_writing(name: str) -> None:
    for module in (run_store, checkpoints):
        real = module.write_atomically
        module.write_atomically = lambda path, text, real=real: (
            die() if str(path).endswith(name) else real(path, text)
        )


def die_in_final_weights() -> None:
    def half(tensors, path):
        Path(path).write_bytes(b"half of it")
        die()

    run_store.save_file = half


MOMENTS = {
    "before_first_checkpoint": lambda trainer: die_in_step(trainer, 2),
    "after_checkpoint": lambda trainer: die_in_step(trainer, 3),
    "in_checkpoint": lambda trainer: die_in_checkpoint(trainer, 6),
    "before_manifest": lambda trainer: die_before_writing("checkpoint-6/manifest.json"),
    "in_second_epoch": lambda trainer: die_in_step(trainer, 10),
    "in_final_weights": lambda trainer: die_in_final_weights(),
    "before_run_json": lambda trainer: die_before_writing("run.json"),
}


def train_and_die(tokenizer, moment: str, runs: Path) -> None:
    """Train in a forked process that kills itself at the moment."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        files.RUNS = runs
        trainer = tiny_trainer(tokenizer)
        MOMENTS[moment](trainer)
        try:
            run_store.recorded(trainer, NAME)
        finally:
            os._exit(1)  # it should not have come so far
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, f"{moment}: {status}"


def kill_at_every_moment(runs: Path) -> None:
    """What the killed processes left is in runs/MOMENT."""
    tokenizer = AutoTokenizer.from_pretrained(base_model.bundled_folder())
    tiny_trainer(tokenizer)  # what it imports is then there for every fork
    for moment in MOMENTS:
        train_and_die(tokenizer, moment, runs / moment)
