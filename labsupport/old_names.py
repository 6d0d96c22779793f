"""Where things are that notebooks copied before the package had rooms ask for by their old names.

A learner's half-done copy in my_work/ goes on as it is. `NAMES` says for each module of then in which modules
its contents are now, `RENAMED` which of them have another name; what is called otherwise now is in old_calls.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
import types

NAMES = {
    "base_model": ["models.base_model"],
    "baselines_grammar": ["baselines.grammar"],
    "baselines_prompting": ["baselines.prompting"],
    "baselines_rules": ["baselines.rule_based"],
    "baselines_scoring": ["baselines.prompt_scoring"],
    "chat": ["models.chat"],
    "checkpoints": ["teaching.quiz"],
    "claims": ["teaching.claims"],
    "counting": ["sizes.counting"],
    "decision": ["baselines.decision"],
    "doctor": ["upkeep.doctor"],
    "exercises": [],
    "exercises.counting_parameters": ["notebooks.nb03_counting_parameters.exercises"],
    "exercises.first_fine_tune": ["notebooks.nb01_first_fine_tune.exercises"],
    "exercises.lora_math": ["notebooks.nb02_lora_math.exercises"],
    "exercises.memory_and_cost": ["notebooks.nb05_memory_and_cost.exercises"],
    "exercises.nf4_quantization": ["notebooks.nb04_nf4_quantization.exercises"],
    "exercises.start_here": ["notebooks.nb00_start_here.exercises"],
    "experiment_list": [],
    "experiment_list.baselines": ["baselines.comparisons"],
    "experiment_list.spectrum": ["experiments.spectrum_experiment"],
    "evaluation.first_steps": ["updates.first_steps"],
    "evaluation.full_update": ["updates.full_update"],
    "evaluation.spectra": ["updates.spectra"],
    "evaluation.toy_training": ["updates.toy_training"],
    "explorers.cost_estimator": ["explorers.cost_estimator_explorer"],
    "explorers.decision": ["explorers.decision_explorer"],
    "explorers.low_rank": ["explorers.low_rank_explorer"],
    "explorers.parameter_calculator": ["explorers.parameter_calculator_explorer"],
    "explorers.quantiser": ["explorers.quantiser_explorer"],
    "explorers.vram_planner": ["explorers.vram_planner_explorer"],
    "files": ["core.files"],
    "gpus": ["sizes.gpus"],
    "lora": ["models.lora", "updates.spectra"],
    "memory.closed_form": ["planning.closed_form"],
    "memory.footprint": ["planning.footprint"],
    "memory.planning": ["planning.planner"],
    "memory.prose": ["planning.prose"],
    "memory.setup": ["setups.setup"],
    "memory.suggesting": ["planning.suggesting"],
    "memory_closed_form": ["planning.closed_form"],
    "memory_model": ["memory.workload"],
    "memory_stream": ["allocations.streams"],
    "memory_trace": ["memory.tracing"],
    "model_configs": ["configs.model_configs"],
    "nf4": ["models.nf4", "evaluation.four_bit"],
    "notebooks.nb00_start_here.baselines_experiment": [
        "experiments.baselines_experiment",
        "baselines.comparisons",
    ],
    "notebooks.nb00_start_here.claims": ["ledger.recorded.prompting"],
    "notebooks.nb00_start_here.decision_explorer": ["explorers.decision_explorer"],
    "notebooks.nb02_lora_math.low_rank_explorer": ["explorers.low_rank_explorer"],
    "notebooks.nb02_lora_math.spectrum_experiment": ["experiments.spectrum_experiment"],
    "notebooks.nb03_counting_parameters.claims": ["ledger.computed.counting"],
    "notebooks.nb03_counting_parameters.parameter_calculator_explorer": [
        "explorers.parameter_calculator_explorer"
    ],
    "notebooks.nb04_nf4_quantization.quantiser_explorer": ["explorers.quantiser_explorer"],
    "notebooks.nb05_memory_and_cost.claims": ["ledger.computed.memory_and_cost"],
    "notebooks.nb05_memory_and_cost.cost_figures": ["cost.figures"],
    "notebooks.nb05_memory_and_cost.figures": ["planning.figures"],
    "notebooks.nb05_memory_and_cost.napkin": ["planning.napkin"],
    "notebooks.nb05_memory_and_cost.step": ["memory.watching"],
    "plots": ["core.plots"],
    "predictions": ["teaching.predictions"],
    "prefixes": ["training.prefixes"],
    "profiles": ["core.profiles"],
    "sizes.model_configs": ["configs.model_configs"],
    "tickets": ["tasks.tickets"],
    "upstream": ["core.upstream"],
    "verifications": [],
    "verifications.counting": ["ledger.computed.counting"],
    "verifications.memory": ["ledger.computed.memory_and_cost"],
    "verifications.start_here": ["ledger.recorded.prompting"],
}
# What was a module is a room now: its file's contents, file by file, so that nothing else of it is loaded.
ROOMS = {
    "baselines": {
        "baselines.comparisons": "PROMPTED SETS best detectable interval methods one_each paired",
        "evaluation.metrics": "field_rights",
    },
    "cost": {
        "cost.operations": "flops_per_token weights_in_products",
        "retired.assumed_cost": "DEQUANTISATION PARALLEL UTILISATION compare",
    },
    "evaluation": {
        "evaluation.scoring": "generate score",
        "evaluation.metrics": "field_f1 valid_json",
        "evaluation.intervals": "interval",
        "evaluation.result_store": "recorded",
    },
    "experiments": {"evaluation.experiments": "find names publish published run"},
    "memory": {
        "planning.prose": "report",
        "allocations.streams": "CATEGORIES",
        "old_calls": "DEPTH Setup plan",
    },
    "training": {"training.run_store": "recorded"},
}
RENAMED = {
    "chat.pad_left": "old_calls.pad_left",
    "lora.apart": "updates.toy_training.distance",
    "lora.first_step": "updates.toy_training.first_step_change",
    "lora.random_spectrum": "updates.spectra.of_random_signs",
    "lora.toy_updates": "updates.toy_training.updates",
    "memory.watching.real_peak": "old_calls.real_peak",
    "memory_closed_form.estimate": "planning.closed_form.peak_bytes",
    "memory_model.build": "memory.workload.build_model",
    "memory_model.optimizer_for": "old_calls.optimizer_for",
    "memory_model.trainable": "memory.workload.trainable_parameters",
    "memory_trace.patched": "memory.stand_ins.in_use",
    "memory_trace.record": "memory.tracing.record_steps",
    "nf4.coded": "evaluation.four_bit.round_trip",
    "nf4.format_bits": "evaluation.four_bit.bits_a_weight",
    "nf4.sample": "evaluation.four_bit.random_weights",
    "notebooks.nb05_memory_and_cost.step.real_peak": "memory.watching.measured_peak",
    "notebooks.nb05_memory_and_cost.step.traced": "planning.footprint.stream_of",
    "notebooks.nb05_memory_and_cost.step.traced_here": "memory.watching.traced_peak",
    "verifications.memory.predicted": "ledger.computed.memory_and_cost.predicted_gb",
    "verifications.memory.reached": "ledger.computed.memory_and_cost.when_reached",
}
CLAIMS = {"b3_search": "B3a", "b3_base": "B3b"}  # functions of then whose name was not their claim's id


def found(module: str, name: str):
    """What a module of then had under a name. AttributeError if it is not among what notebooks asked for."""
    if new := RENAMED.get(f"{module}.{name}"):
        place, _, name = new.rpartition(".")
        return getattr(load(place), name)
    for place, names in ROOMS.get(module, {}).items():
        if name in names.split():
            return getattr(load(place), name)
    for place in NAMES.get(module, []):
        holder = load(place)
        if hasattr(holder, name):
            return getattr(holder, name)
        if module.startswith("verifications."):
            key = CLAIMS.get(name, name.upper())
            for function in vars(holder).values():
                if getattr(function, "claim", None) == key:
                    return function
    raise AttributeError(f"module 'labsupport.{module}' has no attribute {name!r}")


def retired(exercises: str, name: str):
    """What a notebook's module of exercises (its full name) had before. AttributeError if it never had it."""
    folder = exercises.split(".")[-2]
    before = vars(load(f"retired.{folder}"))
    if name not in before:
        raise AttributeError(f"module {exercises!r} has no attribute {name!r}")
    return before[name]


def load(place: str):
    return importlib.import_module(f"labsupport.{place}")


class ModuleOfThen(types.ModuleType):
    """Looks for each name where it is now."""

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        return found(self.__name__.partition(".")[2], name)


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports modules of then. Asked first: where these lay, an updated clone still has their __pycache__,
    which Python would take for a package."""

    def find_spec(self, fullname, path, target=None):
        package, _, module = fullname.partition(".")
        if package != "labsupport" or module not in NAMES:
            return None
        inside = any(name.startswith(f"{module}.") for name in NAMES)
        return importlib.machinery.ModuleSpec(fullname, self, is_package=inside)

    def create_module(self, spec):
        return ModuleOfThen(spec.name)

    def exec_module(self, module):
        pass


def install() -> None:
    """Let Python find the modules of then."""
    sys.meta_path.insert(0, Finder())
