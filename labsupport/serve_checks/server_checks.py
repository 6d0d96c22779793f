"""What vLLM, the server in most use, cannot do with an adapter, or does otherwise than PEFT."""

from __future__ import annotations

import re

from labsupport.core.text import number
from labsupport.findings.finding import Rule, hit_whole
from labsupport.serve_checks import vllm_facts
from labsupport.serve_checks.adapter_folder import Adapter, scale
from labsupport.serve_checks.weight_checks import at

MERGE = "Merge it into the base model (merge_and_unload) and serve the result."

NOT_LORA = Rule("not-lora", "error", "vLLM serves adapters of the kind LoRA only.", MERGE)
RANK_ABOVE = Rule(
    "rank-above-limit", "warning", "vLLM refuses an adapter whose rank is above its --max-lora-rank.",
    "Start the server with the --max-lora-rank of the command below; more than needed costs memory.",
)  # fmt: skip
RANK_BEYOND = Rule(
    "rank-beyond-vllm", "error", f"vLLM's --max-lora-rank ends at {vllm_facts.RANKS[-1]}.",
    "Merge it into the base model, or cut the rank: the update's SVD says how much is lost.",
)  # fmt: skip
SCALE_DIFFERS = Rule(
    "scale-per-module", "note",
    f"vLLM {vllm_facts.VERSION} reads rank_pattern and alpha_pattern; older versions, and other servers, "
    "multiply every update by the one lora_alpha / r, and nothing says so.",
    "Test the replies with --url.",
)  # fmt: skip
WHOLE_MODULES = Rule(
    "whole-modules",
    "error",
    "vLLM refuses modules that were trained and saved whole (modules_to_save).",
    MERGE,
)
TOKENS = Rule(
    "trainable-tokens",
    "error",
    "vLLM refuses rows of embeddings trained with trainable_token_indices.",
    MERGE,
)
EMBEDDING = Rule(
    "embedding-lora", "warning",
    "vLLM adapts embeddings and lm_head only of models whose code there says so, Llama's among them.",
    "Try it with --url, or merge the adapter.",
)  # fmt: skip
NAMES = Rule(
    "tensor-names", "error",
    "vLLM refuses tensors of these names, and PEFT leaves them out: the model would reply as the base does.",
    "Take the adapter's name out (lora_A.default.weight is lora_A.weight), or save by save_pretrained.",
)  # fmt: skip
DORA = Rule("dora", "error", "vLLM refuses DoRA: it has no place for the magnitudes.", MERGE)
BIAS = Rule("bias", "error", "vLLM refuses adapters with biases of their own.", MERGE)
OTHER_LORA = Rule(
    "unserved-settings", "error",
    "vLLM refuses these kinds of LoRA, or drops their settings without a word and computes something else.",
    MERGE,
)  # fmt: skip
RSLORA = Rule(
    "rslora", "note",
    "The scale is alpha / sqrt(r) and vLLM honours that; an older or another server may use alpha / r.",
    "Test the replies with --url.",
)  # fmt: skip
RULES = [NOT_LORA, RANK_ABOVE, RANK_BEYOND, SCALE_DIFFERS, WHOLE_MODULES, TOKENS, EMBEDDING, DORA, BIAS]
RULES += [NAMES, OTHER_LORA, RSLORA]

PART = re.compile(r"\.lora_([AB]\.(weight|bias)|embedding_[AB]|magnitude_vector(\.weight)?)$")  # PEFT's names


def kind(adapter: Adapter):
    """Anything but LoRA."""
    if not adapter.is_lora:
        yield hit_whole(NOT_LORA, f"peft_type is {adapter.config.get('peft_type')}")


def ranks(adapter: Adapter):
    """Ranks above what the server takes."""
    if not adapter.is_lora:
        return
    needed = vllm_facts.rank_limit(adapter.rank)
    if needed is None:
        yield hit_whole(RANK_BEYOND, f"the highest rank is {adapter.rank}")
    elif adapter.rank > adapter.limit:
        default = " (vLLM's default)" if adapter.limit == vllm_facts.DEFAULT_RANK else ""
        text = f"the highest rank is {adapter.rank}, the server's limit {adapter.limit}{default}"
        yield hit_whole(RANK_ABOVE, f"{text}: --max-lora-rank {needed}")


def scales(adapter: Adapter):
    """Modules with a scale of their own."""
    if not adapter.is_lora:
        return
    config = adapter.config
    theirs = scale(config["lora_alpha"], config["r"], config)
    for module in adapter.pairs:
        ours = adapter.scale_of(module)
        if abs(ours - theirs) > 1e-6 * abs(theirs):
            text = f"its scale is {number(ours)}, and lora_alpha / r would be {number(theirs)}"
            yield at(SCALE_DIFFERS, module, text)


def beside_pairs(adapter: Adapter):
    """What is trained and saved otherwise than as pairs of A and B."""
    config, names = adapter.config, list(adapter.tensors)
    token = [name for name in names if "trainable_tokens" in name]
    if config.get("trainable_token_indices") or token:
        yield hit_whole(TOKENS, token[0] if token else "trainable_token_indices is set")
    named = [one for one in config.get("modules_to_save") or () if one not in vllm_facts.KEPT_WHOLE]
    if named:
        yield hit_whole(WHOLE_MODULES, f"modules_to_save is {', '.join(named)}")
    elif adapter.is_lora and (whole := [one for one in names if is_saved_whole(one)]):
        yield hit_whole(WHOLE_MODULES, f"{whole[0]} is saved, and modules_to_save does not name it")
    if adapter.is_lora and (odd := [one for one in names if ".lora_" in one and not PART.search(one)]):
        yield hit_whole(NAMES, f"{len(odd):,} of {len(names):,} tensors; the first: {odd[0]}")
    if config.get("use_dora") or any("lora_magnitude_vector" in name for name in names):
        yield hit_whole(DORA, "use_dora is set" if config.get("use_dora") else "there are magnitude vectors")
    if config.get("bias", "none") != "none" or config.get("lora_bias"):
        yield hit_whole(BIAS, f"bias is {config.get('bias')}, lora_bias {bool(config.get('lora_bias'))}")


def is_saved_whole(name: str) -> bool:
    """Whether a tensor is neither part of LoRA nor a bias nor a trained token, which have findings of their
    own, nor one of the modules that vLLM takes whole. PEFT saves embeddings beside LoRA where the vocabulary
    grew."""
    parts = name.split(".")
    known = ".lora_" in name or parts[-1] == "bias" or "trainable_tokens" in name
    known = known or name.endswith(vllm_facts.PASSED_OVER)
    return not known and not any(one in parts for one in vllm_facts.KEPT_WHOLE)


def embeddings(adapter: Adapter):
    """A and B of the embeddings or the output head."""
    found = [name for name in adapter.tensors if "lora_embedding_" in name or ".lm_head.lora_" in name]
    if found:
        yield hit_whole(EMBEDDING, found[0])


def settings(adapter: Adapter):
    """Kinds of LoRA that vLLM does not know, and rsLoRA, which it does."""
    if not adapter.is_lora:
        return
    asked = (*vllm_facts.REFUSED, *vllm_facts.DROPPED)
    if found := [f"{name} = {adapter.config[name]}" for name in asked if adapter.config.get(name)]:
        yield hit_whole(OTHER_LORA, ", ".join(found))
    if adapter.config.get("use_rslora"):
        yield hit_whole(RSLORA, "use_rslora is set")


CHECKS = [kind, ranks, scales, beside_pairs, embeddings, settings]
