"""Will it fit? Peak memory of a fine-tune, by tracing the real training step on the meta device.

Nothing here needs a GPU and nothing was measured on one: every figure for a card is a prediction.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
from dataclasses import dataclass

from labsupport.core import upstream
from labsupport.core.files import LabError, nearest_first
from labsupport.memory import allocation, closed_form, streams
from labsupport.models import counting, gpus, model_configs

GIB = 2**30
METHODS = ("lora", "qlora", "dora", "qdora", "rslora", "full")
FOUR_BIT = ("qlora", "qdora")
DTYPES = ("bf16", "fp16", "fp32")
ATTENTIONS = ("sdpa", "eager")
OPTIMIZERS = ("adamw", "adamw_8bit")
DEPTH = 3  # layers that are really traced; the others are copies of the inner one
ALIKE, SHORT_THEN_LONG = (1.0, 1.0), (0.5, 1.0)  # the steps recorded, as shares of the length
LIKELY = {"sdpa": 1.02, "eager": 1.15}  # _likely was at most 1.005 and 1.11 times 190 random traces
CONTEXT_GIB = 0.5  # CUDA's context and kernels, which no tracer sees: a few hundred MiB
CATEGORIES = ("weights", "adapters", "gradients", "optimizer", "activations", "logits", "temporaries")
NO_4_BIT = "weights in 4 bits cannot be trained themselves, so there is no 4-bit full fine-tuning."
UNVERIFIED = (
    "UNVERIFIED on a GPU: no published measurement of NF4 with this stack was found to check against."
)


@dataclass(frozen=True)
class Setup:
    """What is trained and how. `length` and `batch` are in tokens and rows; `config` as in config.json."""

    config: dict
    method: str = "lora"
    rank: int = 16
    targets: str | tuple[str, ...] = "all-linear"
    batch: int = 4
    length: int = 512
    dtype: str = "bf16"
    checkpointing: bool = True
    optimizer: str = "adamw"
    double_quantization: bool = True
    kbit_preparation: bool = False
    padded: bool = True
    attention: str = "sdpa"

    @property
    def four_bit(self) -> bool:
        return self.method in FOUR_BIT


@dataclass(frozen=True)
class Suggestion:
    """A change that makes it fit, as traced. margin_gib is what then stays free."""

    change: str
    options: dict
    peak_reserved_gib: float
    margin_gib: float


@dataclass(frozen=True)
class Plan:
    """The answer. GiB throughout; margin_gib is the card's memory less reserved less CUDA's context."""

    peak_allocated_gib: float
    peak_reserved_gib: float
    phase: str
    split_gib: dict[str, float]
    fits: bool | None
    margin_gib: float | None
    suggestions: tuple[Suggestion, ...]
    trainable_parameters: int
    assumptions: tuple[str, ...]
    closed_form_gib: float
    gpu: str | None


@streams.no_sweeps()
def plan(
    model: str | dict,
    method: str = "lora",
    rank: int = 16,
    targets: str | tuple[str, ...] | list[str] = "all-linear",
    batch: int = 4,
    seq: int = 512,
    dtype: str = "bf16",
    checkpointing: bool = True,
    optim: str = "adamw",
    double_quant: bool | None = None,
    kbit_prep: bool = False,
    padded: bool = True,
    attention: str = "sdpa",
    gpu: str | float | None = None,
    suggest: bool = True,
) -> Plan:
    """Trace one steady-state training step and say what it needs.

    model: a name that model_configs knows or a configuration. batch in rows, seq in tokens a row. gpu: a
    card's name, GiB, or None for no verdict. double_quant: None is on, and the only choice but for 4 bits.
    LabError, naming what there is, for anything that is not.
    """
    config = model_configs.checked(dict(model)) if isinstance(model, dict) else named(model)
    targets = targets if isinstance(targets, str) else tuple(targets)
    setup = Setup(
        config=config,
        method=method,
        rank=rank,
        targets=targets,
        batch=batch,
        length=seq,
        dtype=dtype,
        checkpointing=checkpointing,
        optimizer=optim,
        double_quantization=double_quant is not False,
        kbit_preparation=kbit_prep,
        padded=padded,
        attention=attention,
    )
    if double_quant is not None and not setup.four_bit:
        raise LabError(f"Double quantisation is for qlora and qdora, not for {method}: {NO_4_BIT}")
    check(setup)
    card = None if gpu is None else gpus.find(gpu)
    upstream.quiet_messages()
    built: dict = {}
    stream, trainable = trace(setup, built)
    allocated, reserved = streams.peak(stream), peak_reserved(setup, stream, card)
    margin = None if card is None else _margin(card, reserved)
    suggestions = ()
    if card is not None and margin < 0 and suggest:
        suggestions = tuple(_suggestions(setup, card, reserved, built))
    return Plan(
        peak_allocated_gib=allocated.bytes / GIB,
        peak_reserved_gib=reserved / GIB,
        phase=allocated.phase,
        split_gib={name: allocated.split.get(name, 0) / GIB for name in CATEGORIES},
        fits=None if margin is None else margin >= 0,
        margin_gib=margin,
        suggestions=suggestions,
        trainable_parameters=trainable,
        assumptions=tuple(assumptions(setup, card)),
        closed_form_gib=closed_form.estimate(setup) / GIB,
        gpu=None if card is None else card.sold_as,
    )


def named(name: str) -> dict:
    """A model by name; "-instruct" makes no difference to the shape."""
    short = str(name).lower().removesuffix("-instruct")
    return model_configs.find(short if short in model_configs.names() else name)


def _workspace(card: gpus.Card | None) -> int:
    hopper = card is not None and card.capability[0] >= 9
    return allocation.CUBLAS_HOPPER if hopper else allocation.CUBLAS


def room(card: gpus.Card) -> float:
    """GiB that a card has for tensors: its memory less CUDA's context."""
    return card.memory_gib - CONTEXT_GIB


def _margin(card: gpus.Card, reserved: int) -> float:
    return room(card) - reserved / GIB


def trace(setup: Setup, built: dict | None = None) -> tuple[streams.Stream, int]:
    """(the stream of steps in all layers, trainable parameters).

    built: models of earlier traces of this config, used again and added to.

    How much is reserved depends on the batches that came before. Packed batches are all alike. Padded ones
    vary: simulated is what PEFT's benchmark does (method_comparison/MetaMathQA/run.py). Rows are sorted
    from long to short in groups and the cache is emptied in between, so that a short batch, the emptying
    and the longest ones follow each other: a short one and a long one are recorded, the long one repeated.
    """
    from labsupport.memory import tracing

    depth = setup.config["num_hidden_layers"]
    shallow = min(depth, DEPTH)
    history = SHORT_THEN_LONG if setup.padded else ALIKE
    stream, (inside, outside) = tracing.record(setup, shallow, history=history, built=built)
    if setup.padded:
        stream = streams.one_more_step(stream)
    return streams.deepen(stream, depth), inside * depth // shallow + outside


def peak_reserved(setup: Setup, stream: streams.Stream, card: gpus.Card | None = None) -> int:
    """Bytes that the allocator would have reserved at most after the stream that `trace` gave."""
    emptied_before = 2 if setup.padded else None  # the step before which the cache is emptied
    return allocation.peak_reserved(stream, _workspace(card), not setup.four_bit, emptied_before)


def check(setup: Setup) -> None:
    """LabError for the first thing that cannot be planned."""
    if setup.method in ("qfull", "full-4bit") or setup.dtype in ("nf4", "fp4", "int4", "4bit"):
        raise LabError(f"4 bits are a choice of method here, qlora or qdora: {NO_4_BIT}")
    for name, value, known in (
        ("method", setup.method, METHODS),
        ("dtype", setup.dtype, DTYPES),
        ("attention", setup.attention, ATTENTIONS),
        ("optimiser", setup.optimizer, OPTIMIZERS),
        *(("target", target, (*counting.ALL_LINEAR, "all-linear")) for target in _listed(setup.targets)),
    ):
        if value not in known:
            near = nearest_first(str(value), known)
            raise LabError(f"There is no {name} {value!r} here. Known, the nearest first: {near}.")
    if not setup.targets:
        raise LabError("No targets given: name at least one linear layer, or all-linear.")
    for name, value in (("rank", setup.rank), ("batch", setup.batch), ("seq", setup.length)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise LabError(f"{name} is {value!r}: it must be a whole number of at least 1.")
    positions = setup.config.get("max_position_embeddings")
    if positions and setup.length > positions:
        raise LabError(f"seq is {setup.length} but the model has {positions} positions: choose at most that.")
    if setup.kbit_preparation and not setup.four_bit:
        raise LabError(f"kbit preparation is for qlora and qdora, not for {setup.method}: {NO_4_BIT}")


def _listed(targets) -> tuple[str, ...]:
    return (targets,) if isinstance(targets, str) else targets


def assumptions(setup: Setup, card: gpus.Card | None) -> list[str]:
    """What the figures rest on, and what was never checked."""
    found = [
        "A prediction, not a measurement: the step is traced on the meta device.",
        "Plain training loop: zero_grad, outputs = model(**batch), backward, clip_grad_norm_, step; no "
        "autocast; once the optimizer's states exist.",
        f"Up to {DEPTH} layers are traced, the others are copies of the inner one.",
        "Reserved: a simulation of the caching allocator's default settings. Padded rows: a short batch, the "
        "cache emptied, then full ones, as PEFT's benchmark has it; a loop with another order of lengths "
        "that never empties the cache may reserve some percent more.",
        f"{CONTEXT_GIB} GiB are set aside for CUDA's context, outside allocated and reserved.",
    ]
    if setup.method != "full":
        found.append("Adapters in float32, PEFT's default; TRL casts them to bfloat16 on a 4-bit base.")
    if setup.attention == "sdpa":
        found.append(
            "sdpa: a fused kernel (FlashAttention without a mask, the memory-efficient one with it)."
        )
    if not setup.padded:
        found.append(
            "Packed: full rows without any mask. Packing that keeps documents apart under sdpa builds a "
            "mask: plan it as padded."
        )
    if setup.four_bit:
        found.append(UNVERIFIED)
        found.append(
            "4-bit products first make the 16-bit weight; short batches may use a kernel that does not."
        )
    if card is not None and card.capability < (8, 0) and setup.dtype == "bf16":
        found.append(f"{card.sold_as} has no bfloat16 arithmetic: choose fp16 there.")
    return found


def _changes(setup: Setup):
    """(words, options) from the cheapest to the dearest: time first, then precision, then the data."""
    if not setup.checkpointing:
        yield "turn activation checkpointing on (about a third more time)", {"checkpointing": True}
    light = {"checkpointing": True}
    batch = setup.batch
    while batch > 1:
        batch //= 2
        options = {"batch": batch}
        yield f"batch {batch}, more accumulation", options
        if not setup.checkpointing:
            yield f"checkpointing and batch {batch}, more accumulation", light | options
    light["batch"] = 1
    if setup.optimizer == "adamw" and setup.method == "full":
        yield "8-bit AdamW", {"optimizer": "adamw_8bit"}
        light["optimizer"] = "adamw_8bit"
        yield "8-bit AdamW, checkpointing, batch 1", dict(light)
    method = {"full": "lora", "lora": "qlora", "rslora": "qlora", "dora": "qdora"}.get(setup.method)
    while method:
        yield f"method {method}", {"method": method}
        yield f"method {method}, checkpointing, batch 1", light | {"method": method}
        light["method"] = method
        method = {"lora": "qlora"}.get(method)
    length = setup.length
    while length > 256:
        length //= 2
        yield f"rows of {length} tokens", {"length": length}
        yield f"all of these and rows of {length} tokens", light | {"length": length}


def _suggestions(setup: Setup, card: gpus.Card, reserved: int, built: dict, wanted: int = 2):
    """The first changes that make it fit, each traced. Passed over: hopeless ones, by arithmetic, what only
    goes further than a change that was found, and shorter rows, which cost data, if anything was found."""
    found: list[Suggestion] = []
    traced = [(setup, reserved)]
    for words, options in _changes(setup):
        if found and "length" in options:
            break
        changed = dataclasses.replace(setup, **options)
        if changed == setup or any(_goes_further(options, item.options) for item in found):
            continue
        by_hand = closed_form.estimate(changed) / closed_form.TOO_HIGH
        if max(by_hand, _likely(changed, traced) / LIKELY[setup.attention]) > room(card) * GIB:
            continue
        reserved = peak_reserved(changed, trace(changed, built)[0], card)
        traced.append((changed, reserved))
        if (margin := _margin(card, reserved)) >= 0:
            words += f" ({UNVERIFIED})" if changed.four_bit else ""
            found.append(Suggestion(words, options, reserved / GIB, margin))
        if len(found) == wanted:
            break
    return found


def _goes_further(options: dict, found: dict) -> bool:
    """Whether a change does all that another one does, or more of it."""
    fewer = ("batch", "length")
    return all(
        options.get(name) == value or (name in fewer and options.get(name, value) < value)
        for name, value in found.items()
    )


def _likely(setup: Setup, traced: list[tuple[Setup, int]]) -> float:
    """Bytes that a setup should reserve, going by the traced one that is nearest to it and differs in rows or
    in 4 bits only: all but weights, adapters and states in proportion to the tokens. 0 if there is none."""
    alike = [
        (setup.batch * setup.length / (other.batch * other.length), other, reserved)
        for other, reserved in traced
        if _other_rows(other) == _other_rows(setup)
    ]
    if not alike:
        return 0.0
    tokens, other, reserved = min(alike, key=lambda found: abs(math.log(found[0])))
    return _standing(setup) + (reserved - _standing(other)) * tokens


def _other_rows(setup: Setup) -> Setup:
    """What setups have in common whose memory is about in proportion to their tokens."""
    length = setup.length if setup.attention == "eager" else 1  # there the scores grow with its square
    return dataclasses.replace(setup, batch=1, length=length, method=setup.method.removeprefix("q"))


def _standing(setup: Setup) -> float:
    _, parts = closed_form.parts(setup)
    return parts["weights"] + parts["adapters"] + parts["optimizer"]


def report(result: Plan) -> str:
    """The plan in words."""
    lines = [
        f"peak allocated  {result.peak_allocated_gib:7.2f} GiB   in the phase: {result.phase}",
        f"peak reserved   {result.peak_reserved_gib:7.2f} GiB",
        f"by hand         {result.closed_form_gib:7.2f} GiB   allocated, by the closed form",
        f"trainable       {result.trainable_parameters:,} parameters",
        "at the peak:    " + ", ".join(f"{k} {v:.2f}" for k, v in result.split_gib.items() if v >= 0.005),
    ]
    if result.fits is not None:
        word = "fits" if result.fits else "DOES NOT FIT"
        lines.append(f"{result.gpu}: {word}, margin {result.margin_gib:+.2f} GiB")
    for number, item in enumerate(result.suggestions, 1):
        lines.append(f"  {number}. {item.change}: reserves {item.peak_reserved_gib:.2f} GiB")
    if result.fits is False and not result.suggestions:
        lines.append("  Nothing tried here makes it fit: take a smaller model or a larger card.")
    return "\n".join([*lines, "", *(f"- {line}" for line in result.assumptions)])


def parser() -> argparse.ArgumentParser:
    """The command line of `lab.py plan`."""
    found = argparse.ArgumentParser(prog="lab.py plan", description=__doc__)
    which = found.add_mutually_exclusive_group(required=True)
    which.add_argument("--model", help=f"one of {', '.join(model_configs.names())}")
    which.add_argument("--config", help="any config.json of a Llama-like model")
    found.add_argument("--method", default="lora", help=", ".join(METHODS))
    found.add_argument("--rank", type=_whole, default=16)
    found.add_argument("--targets", default="all-linear", help="all-linear, or names joined by commas")
    found.add_argument("--batch", type=_whole, default=4, help="rows a step")
    found.add_argument("--seq", type=_whole, default=512, help="tokens a row")
    found.add_argument("--dtype", default="bf16", help=", ".join(DTYPES))
    found.add_argument("--checkpointing", action=argparse.BooleanOptionalAction, default=True)
    found.add_argument("--optim", default="adamw", help=", ".join(OPTIMIZERS))
    found.add_argument("--double-quant", action=argparse.BooleanOptionalAction)
    found.add_argument("--kbit-prep", action=argparse.BooleanOptionalAction, default=False)
    rows = found.add_mutually_exclusive_group()
    rows.add_argument(
        "--padded", action="store_true", default=True, help="rows of different lengths (default)"
    )
    rows.add_argument("--packed", dest="padded", action="store_false", help="full rows without a mask")
    found.add_argument("--attention", default="sdpa", help=", ".join(ATTENTIONS))
    found.add_argument("--gpu", help=f"{', '.join(gpus.names())}, or a number of GiB")
    found.add_argument("--json", action="store_true", help="one JSON document on standard output")
    return found


def split_targets(text: str) -> str | tuple[str, ...]:
    """ "q_proj,v_proj" as a tuple of names; "all-linear" as it is."""
    return text if text == "all-linear" else tuple(part.strip() for part in text.split(",") if part.strip())


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise LabError(f"{text!r} is not a whole number.") from None


def main(arguments: list[str]) -> int:
    """`lab.py plan`. 0 also where it does not fit: that is an answer. LabError for bad input."""
    asked = vars(parser().parse_args(arguments))
    as_json, path = asked.pop("json"), asked.pop("config")
    if path is not None:
        asked["model"] = model_configs.read(path)
    asked["targets"] = split_targets(asked["targets"])
    result = plan(**asked)
    print(json.dumps(dataclasses.asdict(result), indent=1) if as_json else report(result))
    return 0
