"""The planner that the notebook builds on a napkin: the worked solutions of its exercises on memory.

All sizes are bytes. LoRA and QLoRA on all linear layers, bfloat16, packed rows. tests/notebooks/
test_nb05_memory_and_cost.py holds it to the traced step.
"""

from __future__ import annotations

from labsupport.memory.setup import Setup
from labsupport.planning import closed_form
from labsupport.sizes import counting

# How a trainer has its adapters: (method, trainer) of a run that has them so.
ADAPTERS = {"float32": ("lora", "plain"), "autocast": ("lora", "sft"), "bfloat16": ("qlora", "sft")}


def kept_by_block(config: dict, rank: int, adapters: str) -> int:
    """What one block keeps of one token without checkpointing; adapters: one of ADAPTERS."""
    method, trainer = ADAPTERS[adapters]
    run = Setup(config, method, rank, padded=False, checkpointing=False, trainer=trainer)
    return closed_form.activation_bytes(run)


def peak_of_step(
    standing: float,
    kept: float,
    head: float,
    block: float,
    gradients: float,
    scratch: float,
    accumulates: bool,
) -> float:
    """The most that is there at any of four moments of a step; arguments as in the notebook's exercise 2."""
    earlier = gradients if accumulates else 0
    loss = kept + head + earlier
    first_back = kept + block + earlier
    last_back = block + gradients
    step = gradients + scratch
    return standing + max(loss, first_back, last_back, step)


def adapters_of(run: Setup) -> str:
    """How the run's trainer has its adapters, one of ADAPTERS."""
    if run.trainer == "plain":
        return "float32"
    return "bfloat16" if run.four_bit else "autocast"


def on_paper(run: Setup) -> float:
    """Peak bytes of a LoRA or QLoRA run."""
    tokens, plain = run.batch * run.length, run.trainer == "plain"
    hidden, inner = run.config["hidden_size"], run.config["intermediate_size"]
    trained = counting.lora_count(run.config, run.rank) * closed_form.trainable_bytes(run)
    again = kept_by_block(run.config, run.rank, adapters_of(run))
    kept = 2 * hidden if run.checkpointing else again
    return peak_of_step(
        standing=closed_form.weight_bytes(run) + 3 * trained,
        kept=tokens * run.config["num_hidden_layers"] * kept,
        head=head_bytes(run),
        block=tokens * (3 * 2 * inner + (again if run.checkpointing else 0)),
        gradients=trained,
        scratch=trained if plain else 0,
        accumulates=run.accumulation > 1,
    )


def head_bytes(run: Setup) -> float:
    """Full logits with all that the loss makes of them; or TRL's tile of them."""
    tokens, words = run.batch * run.length, run.config["vocab_size"]
    if run.trainer == "plain":
        return closed_form.LOGITS_BYTES[2] * tokens * words
    positions, columns = closed_form.TILE
    return 2 * min(tokens, positions) * min(words, columns)
