"""Wrong answers to notebook 08's exercises, as learners write them: (function, words of its diagnosis)."""

import hashlib
import json
import math
import os
import re

import numpy as np
import torch
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

NF4 = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}

# ---------------------------------------------------------------- the model


def base(folder, compute_dtype):
    how = BitsAndBytesConfig(**NF4, bnb_4bit_compute_dtype=compute_dtype)
    return AutoModelForCausalLM.from_pretrained(folder, dtype=compute_dtype, quantization_config=how)


def adapted(model, rank, **settings):
    settings = {"r": rank, "lora_alpha": 2 * rank, "target_modules": "all-linear"} | settings
    return get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **settings))


def quantised(dtype=None, **settings):
    """An answer with these settings of BitsAndBytesConfig alone."""

    def build(folder, compute_dtype, rank):
        how = BitsAndBytesConfig(**settings)
        options = {"dtype": dtype or compute_dtype, "quantization_config": how}
        return adapted(AutoModelForCausalLM.from_pretrained(folder, **options), rank)

    return build


def computes_in_bfloat16(folder, compute_dtype, rank):
    return quantised(**NF4, bnb_4bit_compute_dtype=torch.bfloat16)(folder, compute_dtype, rank)


def no_dtype(folder, compute_dtype, rank):
    how = BitsAndBytesConfig(**NF4, bnb_4bit_compute_dtype=compute_dtype)
    return adapted(AutoModelForCausalLM.from_pretrained(folder, quantization_config=how), rank)


def plain_lora(folder, compute_dtype, rank):
    return adapted(AutoModelForCausalLM.from_pretrained(folder, dtype=compute_dtype), rank)


def argument_of_old(folder, compute_dtype, rank):
    return adapted(AutoModelForCausalLM.from_pretrained(folder, dtype=compute_dtype, load_in_4bit=True), rank)


def with_lora(**settings):
    """An answer with these settings of LoraConfig in place of the right ones."""
    return lambda folder, compute_dtype, rank: adapted(base(folder, compute_dtype), rank, **settings)


def default_targets(folder, compute_dtype, rank):
    return get_peft_model(base(folder, compute_dtype), LoraConfig(r=rank, lora_alpha=2 * rank))


def factor_one(folder, compute_dtype, rank):
    return adapted(base(folder, compute_dtype), rank, lora_alpha=rank)


def cast_as_the_base(folder, compute_dtype, rank):
    model = adapted(base(folder, compute_dtype), rank)
    for name, parameter in model.named_parameters():
        if "lora" in name:
            parameter.data = parameter.data.to(compute_dtype)
    return model


def prepared_first(folder, compute_dtype, rank):
    return adapted(prepare_model_for_kbit_training(base(folder, compute_dtype), False), rank)


def prepared_last(folder, compute_dtype, rank):
    return prepare_model_for_kbit_training(adapted(base(folder, compute_dtype), rank), False)


def frozen_last(folder, compute_dtype, rank):
    model = adapted(base(folder, compute_dtype), rank)
    model.requires_grad_(False)
    return model


def head_trained(folder, compute_dtype, rank):
    return adapted(base(folder, compute_dtype), rank, modules_to_save=["lm_head"])


def embeddings_and_norms(folder, compute_dtype, rank):
    model = adapted(base(folder, compute_dtype), rank)
    for name, parameter in model.named_parameters():
        parameter.requires_grad = any(word in name for word in ("lora", "embed", "norm"))
    return model


def result_ignored(folder, compute_dtype, rank):
    model = base(folder, compute_dtype)
    adapted(model, rank)
    return model


def model_alone(folder, compute_dtype, rank):
    return base(folder, compute_dtype)


def config_unused(folder, compute_dtype, rank):
    LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear")
    model = base(folder, compute_dtype)
    return model.requires_grad_(False)


def not_returned(folder, compute_dtype, rank):
    adapted(base(folder, compute_dtype), rank)


# ---------------------------------------------------------------- the adapters


def whole_model(model):
    model.float()


def all_floats(model):
    for parameter in model.parameters():
        if parameter.dtype == torch.bfloat16:
            parameter.data = parameter.data.float()


def to_of_nothing(model):
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.to(torch.float32)


def copied_back(model):
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(parameter.float())


def on_a_copy(model):
    weights = {name: p.float() for name, p in model.named_parameters() if p.requires_grad}
    model.load_state_dict(weights, strict=False)


def by_name(model):
    for name, parameter in model.named_parameters():
        if "lora" in name:
            parameter.data = parameter.data.float()


def a_alone(model):
    for name, parameter in model.named_parameters():
        if name.endswith("lora_A.default.weight"):
            parameter.data = parameter.data.float()


def default_by_name(model):
    for name, parameter in model.named_parameters():
        if ".lora_" in name and ".default." in name:
            parameter.data = parameter.data.float()


def new_objects(model):
    for name, parameter in list(model.named_parameters()):
        if parameter.requires_grad:
            owner, _, last = name.rpartition(".")
            setattr(model.get_submodule(owner), last, torch.nn.Parameter(parameter.data.float()))


def prepared(model):
    prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)


def half_of_float64(model):
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.double()


# ---------------------------------------------------------------- bumps


def scatter(losses, calm):
    return np.std(losses[calm:])


def absolute(losses, calm):
    return np.abs(np.diff(losses[calm:])).mean()


def signed(losses, calm):
    return (losses[-1] - losses[calm]) / (len(losses) - calm - 1)


def squared(losses, calm):
    return np.mean(np.diff(losses[calm:]) ** 2)


def from_the_start(losses, calm):
    return np.sqrt(np.mean(np.diff(losses) ** 2))


def changes_cut(losses, calm):
    """The first `calm` changes are left out: rightly so, if by chance; then one more."""
    return np.sqrt(np.mean(np.diff(losses)[calm + 1 :] ** 2))


def starts_too_early(losses, calm):
    changes = [b - a for a, b in zip(losses, losses[1:], strict=False)][max(calm - 1, 0) :]
    return math.sqrt(sum(change**2 for change in changes) / len(changes))


def over_all_losses(losses, calm):
    later = losses[calm:]
    return math.sqrt(sum((later[i + 1] - later[i]) ** 2 for i in range(len(later) - 1)) / len(later))


def length_of_the_way(losses, calm):
    return np.linalg.norm(np.diff(losses[calm:]))


def size_of_losses(losses, calm):
    return np.sqrt(np.mean(np.square(losses[calm:])))


def largest(losses, calm):
    return max(abs(np.diff(losses[calm:])))


def without_the_first_in_place(losses, calm):
    del losses[:calm]
    return np.sqrt(np.mean(np.diff(losses) ** 2))


# ---------------------------------------------------------------- checkpoints


def matches(checkpoint):
    hashes = json.loads((checkpoint / "manifest.json").read_text())
    for name, expected in hashes.items():
        path = checkpoint / name
        if not path.exists() or hashlib.sha256(path.read_bytes()).hexdigest() != expected:
            return False
    return True


def whole(checkpoint):
    return (checkpoint / "manifest.json").is_file() and matches(checkpoint)


def step(checkpoint):
    return int(re.search(r"\d+", checkpoint.name)[0])


def sorted_as_text(folder):
    for checkpoint in sorted(folder.glob("checkpoint-*"), reverse=True):
        if whole(checkpoint):
            return checkpoint
    return None


def by_time(folder):
    for checkpoint in sorted(folder.glob("checkpoint-*"), key=os.path.getmtime, reverse=True):
        if whole(checkpoint):
            return checkpoint
    return None


def manifest_is_enough(folder):
    sealed = [path.parent for path in folder.glob("checkpoint-*/manifest.json")]
    return max(sealed, key=step) if sealed else None


def files_are_enough(folder):
    found = []
    for manifest in folder.glob("checkpoint-*/manifest.json"):
        names = json.loads(manifest.read_text())
        if set(names) <= {path.name for path in manifest.parent.iterdir()}:
            found.append(manifest.parent)
    return max(found, key=step, default=None)


def first_file(folder):
    def good(checkpoint):
        for name, expected in json.loads((checkpoint / "manifest.json").read_text()).items():
            return hashlib.sha256((checkpoint / name).read_bytes()).hexdigest() == expected
        return False

    found = [path.parent for path in folder.glob("checkpoint-*/manifest.json") if good(path.parent)]
    return max(found, key=step, default=None)


def newest_of_all(folder):
    return max(folder.glob("checkpoint-*"), key=step, default=None)


def first_that_is_complete(folder):
    for checkpoint in sorted(folder.glob("checkpoint-*"), key=step):
        if whole(checkpoint):
            return checkpoint
    return None


def gives_up(folder):
    newest = newest_of_all(folder)
    return newest if newest is not None and whole(newest) else None


def never_equal(folder):
    for checkpoint in sorted(folder.glob("checkpoint-*/manifest.json"), key=lambda path: step(path.parent)):
        hashes = json.loads(checkpoint.read_text())
        if all(hashlib.sha256(name.encode()).hexdigest() == h for name, h in hashes.items()):
            return checkpoint.parent
    return None


def needs_a_manifest(folder):
    found = [path for path in folder.glob("checkpoint-*") if matches(path)]
    return max(found, key=step, default=None)


def every_folder(folder):
    found = [path for path in folder.iterdir() if whole(path) or step(path) < 0]
    return max(found, key=step, default=None)


def the_number(folder):
    found = [step(path) for path in folder.glob("checkpoint-*") if whole(path)]
    return max(found, default=None)


ANSWERS = {
    "qlora_training.qlora_model": [
        (quantised(load_in_4bit=True), "load_in_4bit alone is not QLoRA"),
        (quantised(load_in_8bit=True), "That is 8 bits"),
        (computes_in_bfloat16, None),
        (no_dtype, "in the format of the file"),
        (plain_lora, "Nothing is quantised"),
        (argument_of_old, "It raised TypeError"),
        (default_targets, "PEFT's default for a Llama"),
        (with_lora(target_modules=["q_proj", "k_proj", "v_proj", "o_proj"]), "on the attention alone"),
        (factor_one, "the factor alpha / r is 1"),
        (with_lora(lora_alpha=16), None),
        (with_lora(use_dora=True), None),
        (with_lora(init_lora_weights=False), None),
        (cast_as_the_base, "small steps are rounded away"),
        (prepared_first, "2.1 GB more"),
        (prepared_last, "came after the adapters"),
        (frozen_last, "Nothing is trained"),
        (head_trained, None),
        (embeddings_and_norms, "Embeddings and norms are trained"),
        (result_ignored, "return what get_peft_model returns"),
        (model_alone, "there are no adapters on it"),
        (config_unused, "there are no adapters on it"),
        (not_returned, "is a return statement missing"),
    ],
    "qlora_training.mend_adapters": [
        (whole_model, "Frozen norms, embeddings and head"),
        (all_floats, "Frozen norms, embeddings and head"),
        (to_of_nothing, "makes a new tensor"),
        (copied_back, "makes a new tensor"),
        (on_a_copy, "makes a new tensor"),
        (by_name, "You go by names"),
        (a_alone, "Only A is float32"),
        (default_by_name, "A trained head is left in bfloat16"),
        (new_objects, "on stepping the old ones"),
        (prepared, "freezes every parameter"),
        (half_of_float64, None),
    ],
    "qlora_training.bumpiness": [
        (scatter, "standard deviation of the losses"),
        (absolute, "without their signs"),
        (signed, "less the first"),
        (squared, "The root is missing"),
        (from_the_start, "fall steeply"),
        (changes_cut, "too few at the beginning"),
        (starts_too_early, "too many at the beginning"),
        (over_all_losses, "there is one change fewer"),
        (length_of_the_way, "a longer run looks bumpier"),
        (size_of_losses, "of their changes"),
        (largest, None),
        (without_the_first_in_place, "changes argument losses in place"),
    ],
    "qlora_training.newest_complete": [
        (sorted_as_text, "compare the numbers of steps"),
        (by_time, "by the time of the folder"),
        (manifest_is_enough, "all files were written once"),
        (files_are_enough, "cut off or changed"),
        (first_file, "The first file decides"),
        (newest_of_all, "complete or not"),
        (first_that_is_complete, "That is the oldest"),
        (gives_up, "one before it may be"),
        (never_equal, "You find none complete"),
        (needs_a_manifest, "It raised FileNotFoundError"),
        (every_folder, "It raised"),
        (the_number, None),
    ],
}
