"""Is the adapter whole: do its tensors agree with its settings, and were they trained?"""

from __future__ import annotations

from types import SimpleNamespace

from labsupport.findings.finding import Evidence, Hit, Rule, hit_whole
from labsupport.serve_checks.adapter_folder import ADAPTER, Adapter

UNPAIRED = Rule(
    "unpaired-matrix", "error", "An update is B times A: with one of them there is none, and servers refuse.",
    "Copy or save the adapter again; the file was cut or edited.",
)  # fmt: skip
NO_MATRIX = Rule(
    "no-matrix", "error",
    "Where training was spread over several cards, a process that saves its part alone writes no matrices.",
    "Gather the weights before saving, as the accelerate or DeepSpeed settings say, and save again.",
)  # fmt: skip
RANK_DIFFERS = Rule(
    "rank-differs", "error",
    "The scale is alpha / r by the settings, so a matrix of another rank is refused or scaled wrongly.",
    "Put adapter_config.json and the weights of one and the same run together.",
)  # fmt: skip
NOT_TARGETED = Rule(
    "not-targeted", "error",
    "PEFT makes layers for the settings' targets only: these weights are left out with a warning at most.",
    "Put adapter_config.json and the weights of one and the same run together.",
)  # fmt: skip
WITHOUT_WEIGHTS = Rule(
    "target-without-weights", "error",
    "The settings say that these were trained, and PEFT would begin them anew, as if they never had been.",
    "Put adapter_config.json and the weights of one and the same run together, or save the adapter again.",
)  # fmt: skip
NOT_FINITE = Rule(
    "not-finite", "error", "One NaN or infinity in a matrix makes every reply rubbish.",
    "Take an earlier checkpoint; `lab.py diagnose` says what may have brought it.",
)  # fmt: skip
NEVER_TRAINED = Rule(
    "never-trained", "error", "The update B A is 0 everywhere: the server would reply as the base does.",
    "Take the adapter that was saved after training; `lab.py diagnose` says why nothing may have moved.",
)  # fmt: skip
FLOAT32 = Rule(
    "float32", "note",
    "vLLM turns it into the base model's format (--lora-dtype auto), so replies may change at near ties.",
    "Nothing, or save it in bfloat16: the file is then half as large.",
)  # fmt: skip
RULES = [UNPAIRED, NO_MATRIX, RANK_DIFFERS, NOT_TARGETED, WITHOUT_WEIGHTS, NOT_FINITE, NEVER_TRAINED, FLOAT32]


def unpaired(adapter: Adapter):
    """A without B, or B without A."""
    for module, sides in adapter.matrices.items():
        if len(sides) == 1:
            other = "B" if "A" in sides else "A"
            yield at(UNPAIRED, module, f"lora_{other} is missing")


def no_matrix(adapter: Adapter):
    """A or B without rows, without columns, or flat."""
    for module, sides in adapter.matrices.items():
        for side, tensor in sides.items():
            if len(tensor.shape) != 2 or 0 in tensor.shape:
                yield at(NO_MATRIX, module, f"lora_{side} has the shape {list(tensor.shape)}")


def rank_differs(adapter: Adapter):
    """Matrices of another rank than the settings'."""
    for module, (a, b) in adapter.layer_pairs.items():
        wanted = adapter.rank_of(module)
        if not a.shape[0] == b.shape[1] == wanted:
            text = f"A has {a.shape[0]} rows and B {b.shape[1]} columns, and the settings say rank {wanted}"
            yield at(RANK_DIFFERS, module, text)


def targets_differ(adapter: Adapter):
    """Weights of no target, and targets without weights."""
    if adapter.config.get("target_modules") in (None, "all-linear"):
        return
    stacked = set(adapter.pairs) - set(adapter.layer_pairs)  # which target_parameters names
    for module in adapter.matrices:
        if module not in stacked and not is_target(adapter.config, module):
            yield at(NOT_TARGETED, module, "target_modules does not name it")
    if not any(module in adapter.layers for module in adapter.matrices):
        return  # of another base, which is told elsewhere
    for module in adapter.layers:
        if is_target(adapter.config, module) and not has_weights(adapter, module):
            yield at(WITHOUT_WEIGHTS, module, f"target_modules names it, and {ADAPTER} has nothing for it")


def has_weights(adapter: Adapter, module: str) -> bool:
    return module in adapter.matrices or any(f"{module}.lora_" in name for name in adapter.tensors)


def is_target(config: dict, module: str) -> bool:
    """Whether PEFT adapts a module, by its own rules."""
    from peft.tuners.tuners_utils import check_target_module_exists

    asked = ("exclude_modules", "layers_pattern", "layers_to_transform", "modules_to_save")
    asked += ("target_modules", "target_parameters")
    found = check_target_module_exists(SimpleNamespace(**{name: config.get(name) for name in asked}), module)
    return bool(found) and type(found).__name__ != "_ExcludedModule"


def not_finite(adapter: Adapter):
    """NaN or infinity."""
    for name, tensor in adapter.tensors.items():
        if not tensor.finite:
            yield at(NOT_FINITE, name, "holds NaN or infinity")


def never_trained(adapter: Adapter):
    """Every B, or every A, exactly 0."""
    pairs = adapter.pairs.values()
    if pairs and all(a.zero or b.zero for a, b in pairs):
        side = "B" if all(b.zero for _, b in pairs) else "A or B"
        yield hit_whole(NEVER_TRAINED, f"{side} is exactly 0 in all {len(pairs)} pairs")


def float32(adapter: Adapter):
    """Stored in 32 bits."""
    wide = [name for name, tensor in adapter.tensors.items() if tensor.dtype in ("F32", "F64")]
    if wide:
        yield hit_whole(FLOAT32, f"{len(wide)} of {len(adapter.tensors)} tensors are float32")


def at(rule: Rule, module: str, text: str) -> Hit:
    """A hit in a module or tensor."""
    return Hit(rule, Evidence(module, text))


CHECKS = [unpaired, no_matrix, rank_differs, targets_differ, not_finite, never_trained, float32]
