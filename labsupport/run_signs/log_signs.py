"""Signs in the trainer's log: losses, gradient norms, evaluation losses."""

from __future__ import annotations

import itertools
import math

from labsupport.core.text import number
from labsupport.run_folders.adapter_size import UNTRAINED_B, size_of
from labsupport.run_folders.causes import PROVES, SUGGESTS, Sign
from labsupport.run_folders.loss_curve import FEWEST, Curve, curve_of, finite
from labsupport.settings_checks import recipe_rules as rules

WHERE = "trainer_state.json"
TINY = 1e-3  # an update below a thousandth of the weights changes hardly any reply
SMALL = 1e-2  # good fine-tunes of the course's base change it by so much; a hundredth is not much either
LARGE = 0.3  # an update a third as large as the weights
HARDLY = 0.1  # share by which a loss fell that hardly moved
LITTLE = 0.35
WELL = 0.8  # a loss that fell by more went down well, whatever the rate
UNHEARD_OF = 1e-2  # a learning rate ten times those that are published for LoRA
FOR_NOTHING = 1e-7  # of a full fine-tune, for which 1e-5 is usual
STRAIGHT = 0.6  # of a bend: nearly a straight line
WORSE, MUCH = 1.05, 1.25  # times the loss at the beginning
BLOWN_UP = 1.5
KNOWN_BY_HEART = 0.05  # nats a token: the right token has 95 % on average
OFTEN = 10  # epochs: published instruction fine-tunes take 1 to 5
RISEN = 1.15  # times the lowest evaluation loss
BEST = 1.001  # times it, for rounding: that of the checkpoint that was loaded at the end
# Fields of TRL's trainers whose loss is no cross-entropy: of preferences (DPO), of rewards (GRPO).
OTHER_LOSS = ("reward", "rewards/", "logps/", "kl", "completions/")


def signs(run) -> list[Sign]:
    """The signs in the log; [] without one."""
    if not run.state:
        return []
    curve = curve_of(run)
    found = [*no_gradient(run), *not_finite(run, curve)]
    if curve is not None and not is_cross_entropy(run):
        run.notes.append("Not checked: the course of the loss, which is one of preferences or of rewards.")
    elif curve is not None and curve.losses:
        found += [*fell_to_zero(run, curve), *all_zero(run, curve), *diverged(run, curve)]
        found += [*hardly_moved(run, curve), *by_heart(run, curve)]
    return found


def is_cross_entropy(run) -> bool:
    """Whether the loss is nats a token, as far as the log's other fields tell."""
    fields = {field for line in run.log for field in line}
    return not any(
        field == one or (one.endswith("/") and field.startswith(one))
        for field in fields
        for one in OTHER_LOSS
    )


def no_gradient(run):
    """A gradient norm of exactly 0 in every line, of a run that did not move either."""
    norms = finite(run.log, "grad_norm")
    if norms and not any(norms):
        losses = finite(run.log, "loss")
        if moved(run):
            run.notes.append("grad_norm is 0 in every line though training moved: DeepSpeed may log it so.")
        elif any(losses):
            lines = f"grad_norm is exactly 0 in all {len(norms)} lines of the log"
            yield Sign("no-gradient", PROVES, f"{lines}, while the loss is not", WHERE)


def moved(run) -> bool:
    """Whether the adapter, if it began at 0, is elsewhere, or the loss fell."""
    size, curve = size_of(run), curve_of(run)
    at_zero = run.adapter_config.get("init_lora_weights", True) in UNTRAINED_B
    if size is not None and at_zero:
        return len(size.zero) < len(size.pairs)
    return curve is not None and len(curve.losses) >= FEWEST and curve.fall > LITTLE


def is_broken(line: dict) -> bool:
    """Whether a log line's loss or gradient norm is NaN or infinite."""
    values = [line.get(name) for name in ("loss", "grad_norm")]
    return any(isinstance(value, (int, float)) and not math.isfinite(value) for value in values)


def not_finite(run, curve: Curve | None):
    """NaN or infinity where it stays. One such step at a time is usual with float16, which skips it. Where it
    was there from the first line on, a rate that is too high is only one of the causes."""
    strength = SUGGESTS if run.log and is_broken(run.log[0]) else PROVES
    other = (
        "" if strength == PROVES else ", from the first on: float16 or rows without a token could be it, too"
    )
    norms = [line["grad_norm"] for line in run.log if isinstance(line.get("grad_norm"), (int, float))]
    bad = [norm for norm in norms if not math.isfinite(norm)]
    if curve is not None and curve.broken:
        lines = f"the loss is NaN or infinite in {curve.broken} lines of the log"
        if is_broken(run.log[-1]):
            yield Sign("lr-too-high", strength, lines + other, WHERE)
        else:
            run.notes.append(f"{lines.capitalize()}, and finite after them: batches without a trained token?")
    elif len(bad) >= 2 and not math.isfinite(norms[-1]):
        lines = f"grad_norm is NaN or infinite in {len(bad)} of {len(norms)} lines, up to the last"
        yield Sign("lr-too-high", strength, lines + other, WHERE)
    losses = [line["eval_loss"] for line in run.eval_log if isinstance(line["eval_loss"], (int, float))]
    if losses and not math.isfinite(losses[-1]):
        yield Sign("lr-too-high", SUGGESTS, "the last evaluation loss is NaN or infinite", WHERE)


def fell_to_zero(run, curve: Curve):
    """A loss that is exactly 0 from some line on: transformers logs 0 for NaN, and not every version logs the
    gradient's norm beside it."""
    zeros = len(list(itertools.takewhile(lambda loss: loss == 0, reversed(curve.losses))))
    if FEWEST <= zeros < len(curve.losses) and curve.losses[-zeros - 1] > KNOWN_BY_HEART:
        before = number(curve.losses[-zeros - 1])
        text = (
            f"the loss is exactly 0 in the last {zeros} lines, and {before} before: transformers logs NaN so"
        )
        yield Sign("lr-too-high", SUGGESTS, text, WHERE)


def all_zero(run, curve: Curve):
    """A loss of exactly 0 from the beginning: no token was in it. (Of NaN transformers logs 0 as well.)"""
    size = size_of(run)
    known = (size is not None and size.broken) or any(map(is_broken, run.log))  # as NaN, elsewhere
    if not any(curve.losses) and not known:
        lines = f"the loss is exactly 0 in all {len(curve.losses)} lines: no token was in it"
        yield Sign("truncated", SUGGESTS, lines, WHERE)


def diverged(run, curve: Curve):
    """A loss that ends above its beginning, or blew up on the way, by an adapter that moved."""
    size = size_of(run)
    moved = size is None or not size.relative < TINY
    if not moved or len(curve.losses) < 2:
        return
    rose = curve.end - curve.begin
    course = f"from {number(curve.begin)} to {number(curve.end)}"
    if (
        curve.end > WORSE * curve.begin
        and rose > 1.5 * curve.doubt
        and (curve.rises or curve.end > MUCH * curve.begin)
    ):
        strength = PROVES if curve.end > MUCH * curve.begin else SUGGESTS
        yield Sign("lr-too-high", strength, f"the training loss rose {course}{rate_of(run)}", WHERE)
    elif curve.peak > BLOWN_UP * curve.begin and curve.peak - curve.begin > curve.peak_doubt:
        peak = f"the training loss shot up to {number(curve.peak)} on its way {course}"
        strength = PROVES if curve.end > curve.begin else SUGGESTS
        yield Sign("lr-too-high", strength, f"{peak}{rate_of(run)}", WHERE)
    elif size is not None and size.relative > LARGE and curve.fall < WELL and rate_given(run) > UNHEARD_OF:
        large = f"the adapter's update is {number(100 * size.relative, 2)} % of the weights' size"
        text = f"{large}, and the training loss went {course}{rate_of(run)}"
        yield Sign("lr-too-high", SUGGESTS, text, WHERE)


def hardly_moved(run, curve: Curve):
    """A loss that stayed where it was, by an adapter that stayed near zero."""
    size = size_of(run)
    if size is not None and (len(size.zero) == len(size.pairs) or size.broken):
        return
    norms = finite(run.log, "grad_norm")
    if norms and not any(norms):
        return
    relative = None if size is None else size.relative
    course = f"the training loss went from {number(curve.begin)} to {number(curve.end)}"
    low = 0 <= rate_given(run) < rules.LOW_FOR_LORA
    if relative is None:
        if curve.fall < HARDLY / 2 and 0 <= rate_given(run) < FOR_NOTHING:
            yield Sign("lr-too-low", SUGGESTS, f"{course}{rate_of(run)}", WHERE)
        return
    if relative >= SMALL or curve.fall >= LITTLE:
        return
    update = f"the adapter's update is {number(100 * relative, 2)} % of the weights' size"
    straight = (curve.bend or 0) >= STRAIGHT and curve.begin - curve.end > curve.doubt
    if relative < TINY or (low and curve.fall < HARDLY):
        yield Sign("lr-too-low", PROVES, f"{update}, and {course}{rate_of(run)}", WHERE)
    elif straight or low:
        still = f", and still fell {number(100 * curve.bend, 2)} % as fast in the second half as in the first"
        text = f"{update}, and {course}{still if straight else ''}{rate_of(run)}"
        yield Sign("lr-too-low", SUGGESTS, text, WHERE)


def by_heart(run, curve: Curve):
    """A training loss near 0 with an evaluation loss that rises, over many epochs."""
    losses = finite(run.eval_log, "eval_loss")
    epochs = epochs_of(run)
    if len(losses) < 2 or epochs < OFTEN or len(curve.losses) < FEWEST:
        return
    lowest, last = min(losses), losses[-1]
    best = run.state.get("best_metric")
    loaded = run.arguments.get("load_best_model_at_end") and run.place == run.folder
    if loaded and isinstance(best, (int, float)) and best <= BEST * lowest:
        run.notes.append("Learned by heart at the end; the adapter is that of the best evaluation before.")
        return
    if curve.end < KNOWN_BY_HEART and last > RISEN * lowest and last > 4 * curve.end:
        rows = rows_of(run)
        of = f" of about {rows:,} rows a device" if rows else ""
        yield Sign(
            "memorised",
            PROVES,
            f"after {number(epochs, 2)} epochs{of} the training loss is {number(curve.end)}, and the "
            f"evaluation loss, {number(lowest)} at its lowest, is back at {number(last)}",
            WHERE,
        )


def epochs_of(run) -> float:
    """How many epochs were trained."""
    epochs = finite(run.state.get("log_history", []), "epoch")
    return max(epochs, default=float(run.state.get("epoch") or 0))


def rows_of(run) -> int | None:
    """About how many rows an epoch had on each device, from its steps and their batch; None where that is not
    known."""
    epochs, steps = epochs_of(run), run.state.get("global_step")
    names = ("per_device_train_batch_size", "gradient_accumulation_steps")
    batch = [run.arguments.get(name) for name in names]
    if not epochs or not isinstance(steps, int) or not all(isinstance(one, int) for one in batch):
        return None
    return round(steps / epochs * math.prod(batch))


def rate_given(run) -> float:
    """The highest learning rate in the log, else that of the settings; below 0 where neither is known."""
    rates = finite(run.log, "learning_rate")
    rate = max(rates) if rates else run.arguments.get("learning_rate")
    return float(rate) if isinstance(rate, (int, float)) else -1.0


def rate_of(run) -> str:
    """The learning rate, in brackets, where it is known."""
    rate = rate_given(run)
    return f" (learning rate {number(rate)})" if rate >= 0 else ""
