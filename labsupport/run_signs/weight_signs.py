"""Signs in the adapter's weights: zero, not a number, without a place in the base model."""

from __future__ import annotations

import math

from labsupport.core.text import number
from labsupport.run_folders.adapter_size import UNTRAINED_B, size_of
from labsupport.run_folders.causes import PROVES, SUGGESTS, Sign
from labsupport.run_folders.loss_curve import finite

WHERE = "adapter_model.safetensors"
SWAMPED = 1.0  # an update as large as the weights themselves: what the base knew is drowned


def signs(run) -> list[Sign]:
    """The signs in the weights; [] without an adapter of A and B."""
    size = size_of(run)
    if size is None:
        return []
    return [*nothing_moved(run, size), *not_numbers(run, size), *swamped(run, size), *homeless(run, size)]


def nothing_moved(run, size):
    """B that is exactly as it began."""
    begins_at_zero = run.adapter_config.get("init_lora_weights", True) in UNTRAINED_B
    if not begins_at_zero or len(size.zero) < len(size.pairs) or not steps_of(run):
        return
    said = f"B is exactly 0 in all {len(size.pairs)} pairs after {steps_of(run):,} steps"
    gradients = [line["grad_norm"] for line in run.log if isinstance(line.get("grad_norm"), (int, float))]
    rates = [line.get("learning_rate") for line in run.log]
    if gradients and not any(map(math.isfinite, gradients)):
        return  # steps were skipped because of NaN, which the log's signs say
    if gradients and max(gradients) > 0 and rates and not any(rates):
        yield Sign("lr-too-low", PROVES, f"{said}: the learning rate is 0 in every line of the log", WHERE)
    elif not (gradients and max(gradients) > 0):
        yield Sign("no-gradient", PROVES, f"{said}: the adapter adds nothing", WHERE)
    else:
        flowed = f"though gradients flowed (norm up to {number(max(gradients))})"
        yield Sign("no-gradient", SUGGESTS, f"{said}, {flowed}: were other weights saved?", WHERE)


def steps_of(run) -> int:
    """Optimizer steps of the run; 1 where no log says so, because an adapter is saved after training."""
    return run.state.get("global_step", 1) if run.state else 1


def not_numbers(run, size):
    """NaN or infinity in A or B. Where there was none of it at first, steps that were too long brought it."""
    if not size.broken:
        return
    pairs = f"{len(size.broken)} of {len(size.pairs)} pairs of A and B hold NaN or infinity"
    text = f"{pairs} ({size.broken[0].module})"
    if run.log and not any(finite(run.log, "loss")):
        other = "no line of the log has a loss: float16 or a division by zero in the model could be it, too"
        yield Sign("lr-too-high", SUGGESTS, f"{text}, and {other}", WHERE)
    else:
        yield Sign("lr-too-high", PROVES, text, WHERE)


def swamped(run, size):
    """An update larger than the weights, where no log tells what it did to the loss."""
    if not run.log and size.measured and size.relative > SWAMPED:
        times = f"the adapter's update is {number(size.relative, 2)} times as large as the weights"
        yield Sign("lr-too-high", SUGGESTS, f"{times} it is added to (median of Frobenius norms)", WHERE)


def homeless(run, size):
    """Pairs for which the base model has no matrix: PEFT leaves them out with a warning."""
    from labsupport.run_folders.base_of_run import base_shapes

    folder = run.base_folder()
    known = base_shapes(folder) if folder is not None else {}
    lost = [pair for pair in size.pairs if known and pair.module not in known]
    if lost and len(lost) < len(size.pairs):
        run.notes.append(
            f"{len(lost)} of the adapter's {len(size.pairs)} modules have no plain matrix in the base model "
            f"({lost[0].module}); if they are not experts or quantized, they are not applied."
        )
    return ()
