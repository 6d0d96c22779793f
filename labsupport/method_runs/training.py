"""One trainer for all methods: TRL's SFTTrainer with the same settings, rows and order."""

from __future__ import annotations

import statistics
import time

from labsupport.method_runs import bases, methods
from labsupport.qlora_runs import facts_training
from labsupport.tasks import facts, tickets

FACTS, EPOCHS = 100, 10
FACTS_STEPS = EPOCHS * -(-FACTS // facts_training.BATCH)
TICKET_ROWS = 256
TICKET_BETAS = (0.6, 0.95)  # the course's recipe


def trainer(
    method: str, model, tokenizer, rows: list[dict], rate: float, seed: int, steps: int, betas, **arguments
):
    """An untrained SFTTrainer of a method on a bare model, which it changes: as `of_model` for the rest."""
    adapted = methods.put(method, model, seed)
    optimizer = methods.optimizer(method, adapted, rate, betas)
    return of_model(adapted, tokenizer, rows, rate, seed, steps, betas, optimizer, **arguments)


def of_model(
    adapted,
    tokenizer,
    rows: list[dict],
    rate: float,
    seed: int,
    steps: int,
    betas,
    optimizer=None,
    **arguments,
):
    """An untrained SFTTrainer of a model that has its adapters on, and rows of prompt + completion.

    rate: the peak of a cosine with a warm-up of a tenth (of LoRA+: A's). steps: of `facts_training.BATCH`
    rows. betas: Adam's. optimizer: if not the trainer's own AdamW. arguments: more of SFTConfig. The loss of
    every step is logged.
    """
    from datasets import Dataset
    from transformers import PrinterCallback
    from trl import SFTConfig, SFTTrainer

    from labsupport.core import files, upstream

    upstream.score_only_labels()
    settings = {
        "output_dir": str(files.RUNS / "trainer"),
        "learning_rate": rate,
        "max_steps": steps,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0.1,
        "adam_beta1": betas[0],
        "adam_beta2": betas[1],
        "per_device_train_batch_size": facts_training.BATCH,
        "max_length": 256,
        "activation_checkpointing": False,
        "use_cpu": True,
        "bf16": False,
        "logging_steps": 1,
        "report_to": "none",
        "disable_tqdm": True,
        "save_strategy": "no",
        "seed": seed,
    }
    result = SFTTrainer(
        model=adapted,
        args=SFTConfig(**settings | arguments),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        optimizers=(optimizer, None),
    )
    result.remove_callback(PrinterCallback)
    return result


def on_facts(method: str, rate: float, seed: int, steps: int = FACTS_STEPS):
    """An untrained trainer of tiny_base on 100 facts, in float32; ten epochs if not said otherwise."""
    model, tokenizer = bases.tiny()
    rows = facts.as_prompt_completion(facts.load(FACTS))
    return trainer(method, model, tokenizer, rows, rate, seed, steps, betas=(0.9, 0.999))


def on_tickets(method: str, model, tokenizer, rate: float, seed: int):
    """An untrained trainer of a method on a bare base, which is changed, on 256 tickets, one epoch: weights
    in float32, products in bfloat16, what the rows of a batch share run once (not for prompt and prefix
    tuning)."""
    from labsupport.training import prefixes

    rows = tickets.as_prompt_completion(tickets.load("train")[:TICKET_ROWS])
    steps = -(-TICKET_ROWS // facts_training.BATCH)
    result = trainer(method, model, tokenizer, rows, rate, seed, steps, TICKET_BETAS, bf16=True)
    prefixes.share(result)
    return result


def train(trainer, *callbacks) -> dict:
    """Train; the loss of every step (nats a trained token), and the median of a step's seconds of processor
    time: forwards, backwards and the optimizer's, not what the callbacks do."""
    clock = _clock()
    for callback in (clock, *callbacks):
        trainer.add_callback(callback)
    trainer.train()
    losses = [round(float(entry["loss"]), 4) for entry in trainer.state.log_history if "loss" in entry]
    return {
        "losses": losses,
        "steps": trainer.state.global_step,
        "seconds_a_step": round(statistics.median(clock.seconds), 5),
    }


def _clock():
    """A callback whose `seconds` are those of each step, of processor time."""
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        def __init__(self):
            self.seconds: list[float] = []

        def on_step_begin(self, args, state, control, **others):
            self.start = time.process_time()

        def on_step_end(self, args, state, control, **others):
            self.seconds.append(time.process_time() - self.start)

    return Clock()


def flops_of_step(trainer) -> int:
    """Operations of one training step on the trainer's first rows, forwards and backwards, counted by torch.

    Attention is computed in its plain form meanwhile: torch does not count its fused one on a processor. The
    trainer's model has no gradients afterwards.
    """
    from torch.utils.flop_counter import FlopCounterMode

    model = trainer.model
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    fused, base.config._attn_implementation = base.config._attn_implementation, "eager"
    rows = [trainer.train_dataset[i] for i in range(facts_training.BATCH)]
    try:
        with FlopCounterMode(display=False) as counter:
            trainer.compute_loss(model.train(), trainer.data_collator(rows)).backward()
    finally:
        base.config._attn_implementation = fused
    model.zero_grad(set_to_none=True)
    return counter.get_total_flops()


def steps_at_equal_flops(method: str, steps: int = FACTS_STEPS) -> int:
    """How many steps on facts a method may take for the operations of so many of LoRA's; at least one."""
    if methods.METHODS[method].lora_flops:
        return steps
    ours, loras = (flops_of_step(on_facts(name, 1e-3, 0)) for name in (method, "lora"))
    return max(1, round(steps * loras / ours))
