"""A small model of each family that the course plans, and of variants that have other layers."""

SMALL = {
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 96,
    "vocab_size": 500,
    "max_position_embeddings": 4096,
}
# A whole config.json, as small as one can be.
SMALLEST = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 96,
    "vocab_size": 100,
}
FAMILIES = {
    "llama": {"model_type": "llama"},
    "mistral": {"model_type": "mistral"},
    "qwen2": {"model_type": "qwen2"},
    "qwen3": {"model_type": "qwen3", "head_dim": 32},
    "gemma2": {"model_type": "gemma2", "head_dim": 32, "sliding_window": 32},
    "gemma3": {"model_type": "gemma3_text", "head_dim": 32, "sliding_window": 32, "attention_bias": True},
    "phi3": {"model_type": "phi3", "sliding_window": 32},
    "granite": {"model_type": "granite", "attention_bias": True, "mlp_bias": True},
    "smollm3": {"model_type": "smollm3", "mlp_bias": True},
    "falcon": {"model_type": "falcon"},
    "falcon of 40B": {"model_type": "falcon", "new_decoder_architecture": True, "num_kv_heads": 2},
    "falcon-rw": {
        "model_type": "falcon",
        "alibi": True,
        "multi_query": False,
        "parallel_attn": False,
        "bias": True,
    },
    "gpt2": {"model_type": "gpt2"},
    "mixtral": {"model_type": "mixtral", "num_local_experts": 4},
    "qwen3 moe": {
        "model_type": "qwen3_moe",
        "num_experts": 8,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 48,
        "head_dim": 32,
        "attention_bias": True,
    },
}


def small(family: str, layers: int) -> dict:
    """A config.json of a family, with so many layers."""
    return SMALL | FAMILIES[family] | {"num_hidden_layers": layers}
