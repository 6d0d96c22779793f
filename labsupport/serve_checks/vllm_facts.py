"""What vLLM says about the adapters it serves: read in the source of the version below, not run here."""

from __future__ import annotations

# In its wheel: vllm/config/lora.py (ranks), vllm/lora/peft_helper.py (what is refused, the scale),
# vllm/lora/utils.py (names of tensors), vllm/config/model.py (generation_config),
# vllm/entrypoints/openai/*/protocol.py (return_token_ids, prompt_token_ids),
# vllm/engine/arg_utils.py and vllm/entrypoints/common/cli_args.py (the options of `vllm serve`).
VERSION = "0.33.0"
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # what --max-lora-rank takes
DEFAULT_RANK = 16  # --max-lora-rank where it is not given
DEFAULT_PORT = 8000
# Options of `vllm serve` that the course writes or speaks of.
OPTIONS = (
    "--chat-template", "--enable-lora", "--lora-dtype", "--lora-modules", "--max-cpu-loras",
    "--max-lora-rank", "--max-loras", "--override-generation-config",
)  # fmt: skip
KEPT_WHOLE = ("classifier", "score")  # the only modules_to_save that it takes
# Copies of the base's own weights, which PEFT saves where these are adapted, and which it passes over.
PASSED_OVER = (".embed_tokens.base_layer.weight", ".lm_head.base_layer.weight")

# Of adapter_config.json it refuses these where they are set, and drops the others without a word.
REFUSED = ("alora_invocation_tokens", "layer_replication", "use_bdlora", "use_qalora")
DROPPED = ("arrow_config", "kasa_config", "monteclora_config")


def rank_limit(rank: int) -> int | None:
    """The smallest --max-lora-rank that takes adapters of a rank; None where there is none."""
    return next((one for one in RANKS if one >= rank), None)
