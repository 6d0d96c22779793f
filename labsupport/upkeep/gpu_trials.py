"""What training is made of, tried on a card in a minute: a product, TRL's head, an NF4 layer, the recipe.

The checks of `gpu_doctor` that compute. Each returns whether it is fine, what was seen and how to mend it, or
raises; each works on the device of its `Trial`, a card or, in the tests, the processor.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from pathlib import Path

from labsupport.core import profiles
from labsupport.models import base_model

CLOSE = 0.05  # of the largest entry: far above rounding in 16 bits, far below any wrong kernel


@dataclass
class Trial:
    """What the checks share. device: "cuda"; "cpu" in the tests. folder: scratch. dtypes and weights: of the
    adapters of the tiny training, by name."""

    device: str
    cards: list[profiles.Card]
    folder: Path
    profile: profiles.Profile | None = None
    dtypes: set[str] = field(default_factory=set)
    weights: dict = field(default_factory=dict)

    @property
    def dtype(self):
        """The profile's format of arithmetic, as torch's."""
        import torch

        return getattr(torch, self.profile.dtype)


# ---------------------------------------------------------------- what training is made of


def difference(found, expected) -> float:
    """The largest difference, as a share of the largest entry; NaN if either is not finite."""
    found, expected = found.detach().float().cpu(), expected.detach().float().cpu()
    return float((found - expected).abs().max() / expected.abs().max())


def close(differences: dict[str, float]):
    """A check's answer: fine if all are small; a NaN is not."""
    seen = ", ".join(f"{what} off by {value:.1g}" for what, value in differences.items())
    fix = "The card or its driver computes wrongly: try once more, then take another host."
    return all(value < CLOSE for value in differences.values()), seen, fix


def drawn(trial: Trial, *shape: int, scale: float = 1.0):
    """Normal numbers on the device in the profile's format, always the same."""
    import torch

    numbers = torch.randn(*shape, generator=torch.Generator().manual_seed(0)) * scale
    return numbers.to(trial.device, trial.dtype)


def product(trial: Trial):
    left, right = drawn(trial, 256, 512), drawn(trial, 512, 256)
    return close({"product": difference(left @ right, left.float().cpu() @ right.float().cpu())})


def head(trial: Trial):
    """Log-probabilities of 64 tokens out of 3,000 by TRL's chunked head, and their gradient, by torch's."""
    import torch
    from trl.kernels import ChunkedLogProbFunction

    hidden, weight = drawn(trial, 64, 256).requires_grad_(), drawn(trial, 3000, 256, scale=0.05)
    targets = torch.arange(64, device=trial.device) * 40
    # Tiles of 1,024 words, the last not full; the outputs that SFTTrainer asks for.
    options = (1.0, 1024, None, 1.0, ("log_probs", "entropy", "is_top1"))
    found, *_ = ChunkedLogProbFunction.apply(hidden, weight, None, targets, *options)
    found.sum().backward()
    plain = hidden.detach().float().cpu().requires_grad_()
    logits = (plain @ weight.float().cpu().T).log_softmax(-1)
    expected = logits.gather(-1, targets.cpu().unsqueeze(-1)).squeeze(-1)
    expected.sum().backward()
    return close({"forwards": difference(found, expected), "backwards": difference(hidden.grad, plain.grad)})


def nf4_layer(trial: Trial):
    """A Linear4bit against the product with its dequantised weight: a batch, its gradient, and one row, for
    which bitsandbytes has a kernel of its own."""
    import torch
    from bitsandbytes.functional import dequantize_4bit
    from bitsandbytes.nn import Linear4bit

    from labsupport.core import upstream

    upstream.guard_4bit_on_cpu()
    layer = Linear4bit(256, 256, bias=False, compute_dtype=trial.dtype, quant_type="nf4")
    layer.weight.data.copy_(torch.randn(256, 256, generator=torch.Generator().manual_seed(1)) / 16)
    layer = layer.to(trial.device)
    rows = drawn(trial, 16, 256).requires_grad_()
    out = layer(rows)
    out.float().sum().backward()
    weight = dequantize_4bit(layer.weight.data, layer.weight.quant_state).float()
    with torch.no_grad():
        one = layer(rows[:1])
    expected = rows.float() @ weight.T
    gradient = weight.sum(0).expand(16, -1)
    return close(
        {
            "forwards": difference(out, expected),
            "backwards": difference(rows.grad, gradient),
            "one row": difference(one, expected[:1]),
        }
    )


# ---------------------------------------------------------------- the recipe on a tiny model


def save_tiny_qwen2(folder: Path) -> None:
    """A random Qwen2 of two layers with the bundled model's tokenizer: what recipe.trainer can load."""
    import torch
    from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(base_model.bundled_folder())
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def tiny_trainer(trial: Trial):
    """The course's own trainer, with all that the recipe sets, on the tiny model: two steps, each logged."""
    from labsupport.training import recipe

    folder = trial.folder / "tiny-qwen2"
    if not folder.exists():
        save_tiny_qwen2(folder)
    before = os.environ.get("LAB_BASE_MODEL")
    os.environ["LAB_BASE_MODEL"] = str(folder)
    try:
        trainer = recipe.trainer()
    finally:
        del os.environ["LAB_BASE_MODEL"]
        if before is not None:
            os.environ["LAB_BASE_MODEL"] = before
    args = trainer.args
    args.max_steps, args.logging_steps, args.logging_nan_inf_filter = 2, 1, False
    return trainer


def train(trial: Trial, trainer, name: str):
    """Train as a recorded run does, from the newest checkpoint under that name if there is one."""
    from labsupport.training import fingerprint, run_store

    folder = trial.folder / name
    folder.mkdir(exist_ok=True)
    return run_store.train(trainer, folder, name, name, fingerprint.starting_point(trainer))


def training(trial: Trial):
    """Two steps; besides, for the checks below, the adapters' formats before and their weights after."""
    import math

    from labsupport.training import run_store

    trainer = tiny_trainer(trial)
    trial.dtypes = {str(p.dtype) for p in trainer.model.parameters() if p.requires_grad}
    start = run_store.trainable(trainer.model)
    start = {name: weight.clone() for name, weight in start.items()}
    _, losses = train(trial, trainer, "whole").losses()
    trial.weights = run_store.trainable(trainer.model)
    moved = any((trial.weights[name] != weight).any() for name, weight in start.items())
    finite = len(losses) == 2 and all(map(math.isfinite, losses))
    seen = f"losses {', '.join(f'{loss:.3f}' for loss in losses)}" + (
        "" if moved else "; no adapter has moved"
    )
    fix = (
        f"{trial.profile.dtype} does not hold in training here: set LAB_PROFILE=cpu, or rent a card with "
        "bfloat16 (compute capability 8.0 or newer)."
    )
    return finite and moved, seen, fix


def adapters(trial: Trial):
    """TRL makes the adapters of a quantised model bfloat16 (trl 1.16, sft_trainer.py): float16's gradient
    scaler then raises, and a resumed run goes on in float32, to another result."""
    seen = ", ".join(sorted(trial.dtypes)).replace("torch.", "") or "none: no trainer could be made"
    fix = "A fault of the course, not of this machine: after SFTTrainer(...) they must be made float32."
    return trial.dtypes == {"torch.float32"}, seen, fix


class Stopped(Exception):
    """Stands for the kill."""


def resume(trial: Trial):
    """Killed in the second step and taken up again, the run must end as the one without a break.

    A card's attention may add up in another order each time. So where the two differ, the run without a break
    is done once more: if that differs from itself, resuming is not to blame.
    """
    halved = tiny_trainer(trial)
    step = halved.training_step

    def stop_in_second(*arguments, **options):
        if halved.state.global_step == 1:
            raise Stopped
        return step(*arguments, **options)

    halved.training_step = stop_in_second
    with contextlib.suppress(Stopped):
        train(trial, halved, "halved")
    again, fix = tiny_trainer(trial), "Do not rely on resuming here: let runs finish, and tell the course."
    outcome = train(trial, again, "halved").outcome
    if outcome != "resumed":
        return False, f"it was {outcome} from the start: no whole checkpoint was found", fix
    apart = distance(trial.weights, again)
    if apart == 0:
        return True, "bit for bit the run without a break", ""
    repeated = tiny_trainer(trial)
    train(trial, repeated, "repeated")
    if noise := distance(trial.weights, repeated):
        return True, f"off by {apart:.1g}, but a run without a break does not repeat either ({noise:.1g})", ""
    return False, f"off by {apart:.1g} from the run without a break, which repeats bit for bit", fix


def distance(weights: dict, trainer) -> float:
    """The largest difference between the weights and a trainer's."""
    from labsupport.training import run_store

    other = run_store.trainable(trainer.model)
    return max(float((other[name].float() - weight.float()).abs().max()) for name, weight in weights.items())
