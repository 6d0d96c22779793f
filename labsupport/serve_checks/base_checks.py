"""Is the base model named so that a server finds it, and is it the one that the adapter was trained on?"""

from __future__ import annotations

import re
from pathlib import Path

from labsupport.core.files import ROOT, short
from labsupport.findings.finding import Rule, hit_whole
from labsupport.run_folders.base_of_run import last_part
from labsupport.serve_checks.adapter_folder import Adapter
from labsupport.serve_checks.weight_checks import at

NOT_NAMED = Rule(
    "base-not-named", "warning", "Nothing says which base model the adapter belongs to.",
    "Write base_model_name_or_path into adapter_config.json; until then give --base.",
)  # fmt: skip
NOT_FOUND = Rule(
    "base-not-found", "warning",
    "The adapter names its base by a folder that is not on this machine, so nobody can load the two by it.",
    "Write the model's name on the hub, or the folder here, into adapter_config.json.",
)  # fmt: skip
IS_A_PATH = Rule(
    "base-is-a-path", "note",
    "The adapter names its base by a folder of this machine: on another one nothing is found there.",
    "Before you hand the adapter on, write the model's name on the hub into adapter_config.json.",
)  # fmt: skip
NOT_HERE = Rule(
    "base-not-here", "note",
    "The base model is not on this machine, so layers and tokenizer were not compared with the adapter's.",
    "Give --base, the model's folder, or fetch it.",
)  # fmt: skip
ANOTHER_BASE = Rule(
    "another-base", "error",
    "The matrices do not fit the base model's: the adapter was trained on another one, and loading it fails.",
    "Serve it on its own base model; with --base you say which that is.",
)  # fmt: skip
DIFFERS = Rule(
    "base-differs", "warning",
    "The adapter names another base model than --base. Where the two are of one size it loads, and may "
    "answer other than it was trained to.",
    "Serve it on the base that it names, or correct base_model_name_or_path in adapter_config.json.",
)  # fmt: skip
OTHER_NAME = Rule(
    "base-named-otherwise", "note",
    "The adapter names its base model otherwise than the folder is called; whether that holds the same "
    "weights cannot be seen from the adapter.",
    "Make sure that it is the model that the adapter names.",
)  # fmt: skip
FOREIGN = Rule(
    "foreign-layers", "error",
    "The base model has no layers of these names: PEFT would leave the weights out and vLLM refuses them.",
    "Serve it on its own base model, or rename the tensors if a wrapper (torch.compile, say) did it.",
)  # fmt: skip
CHANGED_BASE = Rule(
    "changed-base", "error",
    "This way of beginning takes its first update out of the base's weights, so the adapter is right on the "
    "changed base only, and every server loads the original.",
    "Save it again with save_pretrained(path_initial_model_for_weight_conversion=...), which makes it an "
    "ordinary LoRA of twice the rank, or merge it into the changed base.",
)  # fmt: skip
FOUR_BIT = Rule(
    "four-bit-base", "note",
    "An adapter was fitted to the base as it was rounded in training; notebook 08 measures what it loses on "
    "a base in other precision.",
    "Serve the base in the same 4 bits, or measure the merged model before you trust it.",
)  # fmt: skip
RULES = [
    NOT_NAMED, NOT_FOUND, IS_A_PATH, NOT_HERE, DIFFERS, OTHER_NAME, ANOTHER_BASE, FOREIGN, CHANGED_BASE,
    FOUR_BIT,
]  # fmt: skip

CHANGES_BASE = ("pissa", "corda", "olora", "loftq", "lora_ga")  # PEFT's names; pissa_niter_16 begins so, too
# transformers 5 stacks experts and has classes of its own for routers; PEFT and vLLM take the older names.
OF_EXPERTS = re.compile(r"\.experts\.\d+\.\w+$|\.(mlp|block_sparse_moe)\.(gate|router)$")
IN_NAME = re.compile(r"([-_]unsloth)?([-_]bnb)?[-_]4bit$")
IN_FOUR_BITS = re.compile(r"load_in_4bit['\"]?:\s*true", re.IGNORECASE)


def name(adapter: Adapter):
    """How the adapter names its base."""
    named = adapter.config.get("base_model_name_or_path")
    if not named:
        yield hit_whole(NOT_NAMED, "base_model_name_or_path is empty")
    elif is_path(named) or is_here(named):
        rule = IS_A_PATH if is_here(named) else NOT_FOUND
        yield hit_whole(rule, f"base_model_name_or_path is {named}")
    if adapter.base_folder is None and adapter.base is not None:
        yield hit_whole(NOT_HERE, adapter.base)


def same_name(adapter: Adapter):
    """Whether the base that is served may be the one that the adapter names, where that is another name."""
    named, served = adapter.config.get("base_model_name_or_path"), adapter.base
    if not named or not served or plain(named) == plain(served) or (is_path(named) and not is_here(named)):
        return  # NOT_FOUND tells of a folder that is not here
    rule = OTHER_NAME if any(is_path(one) or is_here(one) for one in (named, served)) else DIFFERS
    yield hit_whole(rule, f"the adapter names {named}, and it is served on {served}")


def plain(name: str) -> str:
    """The last part of a name or a path, its letters and digits, without what says that the same model lies
    there in 4 bits. A folder in the hub's cache is called by a hash, and has the name before it."""
    cached = re.search(r"models--(?:[^/\\]+--)?([^/\\]+)[/\\]snapshots[/\\]", name)
    last = last_part(cached[1] if cached else name).partition("@")[0]
    return re.sub(r"[^a-z0-9]", "", IN_NAME.sub("", last)).removeprefix("meta")  # the hub renamed Meta-Llama


def is_path(name: str) -> bool:
    """Whether a name can only be meant as a folder."""
    return bool(re.match(r"[./~]|\w:|.*\\", name)) or name.count("/") > 1 or name.endswith("/")


def is_here(name: str) -> bool:
    """Whether there is a folder of that name, seen from here or from the repository."""
    return any((place / name).is_dir() for place in (Path.cwd(), ROOT))


def shapes(adapter: Adapter):
    """Matrices that do not fit, and layers that are not there."""
    if not adapter.layers:
        return
    for module, (a, b) in adapter.layer_pairs.items():
        mine = (b.shape[0], a.shape[1])
        theirs = adapter.layers.get(module)
        if theirs is None and OF_EXPERTS.search(module):
            continue
        if theirs is None:
            yield at(FOREIGN, module, f"is not in {short(adapter.base_folder)}")
        elif mine != theirs:
            text = (
                f"is made for a matrix of {mine[0]} x {mine[1]}, and the base's has {theirs[0]} x {theirs[1]}"
            )
            yield at(ANOTHER_BASE, module, text)


def beginning(adapter: Adapter):
    """Ways of beginning that change the base."""
    way = adapter.config.get("init_lora_weights")
    if isinstance(way, str) and way.lower().startswith(CHANGES_BASE):
        yield hit_whole(CHANGED_BASE, f"init_lora_weights is {way}")


def four_bits(adapter: Adapter):
    """A base in 4 bits, where PEFT's model card or the base's name records it."""
    card = adapter.folder / "README.md"
    if card.is_file() and IN_FOUR_BITS.search(card.read_text(encoding="utf-8", errors="replace")):
        yield hit_whole(FOUR_BIT, "README.md: load_in_4bit: True")
    elif re.search(r"bnb-4bit|[-_]4bit$", adapter.config.get("base_model_name_or_path") or ""):
        yield hit_whole(FOUR_BIT, f"the base's name: {adapter.config['base_model_name_or_path']}")


CHECKS = [name, same_name, shapes, beginning, four_bits]
