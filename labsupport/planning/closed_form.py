"""The planner's answer in one screen of arithmetic, without any tracing: what a learner can do on paper."""

from __future__ import annotations

from labsupport.memory.setup import Setup
from labsupport.sizes import counting

NF4_BYTES = {True: (4 + 8 / 64 + 32 / (64 * 256)) / 8, False: (4 + 32 / 64) / 8}  # QLoRA paper, section 3
TOO_HIGH = 1.2  # at most this much of the traced peak; test_memory_explorers.py traces the worst
LOGITS_BYTES = {2: 14, 4: 16}  # bytes a token and word: logits, float32 copy, log-softmax, two gradients


def target_shapes(setup: Setup) -> list[tuple[int, int]]:
    """The shapes of the layers of one block that get an adapter."""
    linear = counting.block_shapes(setup.config)
    if setup.method == "full":
        return []
    return (
        list(linear.values()) if setup.targets == "all-linear" else [linear[name] for name in setup.targets]
    )


def weight_bytes(setup: Setup) -> float:
    """Bytes of the model's weights as they are loaded: 4 bits in the blocks, if asked, else the dtype's."""
    config, size = setup.config, setup.number_bytes
    in_blocks = config["num_hidden_layers"] * sum(a * b for a, b in counting.block_shapes(config).values())
    tables = 1 if config.get("tie_word_embeddings") else 2
    outside = tables * config["vocab_size"] * config["hidden_size"]
    if not setup.four_bit:
        return size * (in_blocks + outside)
    outside *= 4 if setup.kbit_preparation else size
    return NF4_BYTES[setup.doubly_quantized] * in_blocks + outside


def trainable_parameters(setup: Setup) -> int:
    """Parameters that get gradients, without norms and biases in full fine-tuning."""
    if setup.method == "full":
        return round(weight_bytes(setup) / setup.number_bytes)
    layers = setup.config["num_hidden_layers"]
    return layers * sum(
        setup.rank * (a + b) + (b if setup.method.endswith("dora") else 0) for a, b in target_shapes(setup)
    )


def activation_bytes(setup: Setup) -> int:
    """Bytes kept for the backward pass for one token and one block, frozen base, LoRA, no checkpointing.

    Two norms in float32; each adapter's input in float32 and its A output; queries, keys, values, output
    and log-sums of the attention; the MLP's gate, its activation and the other factor.
    """
    config, size = setup.config, setup.number_bytes
    linear = counting.block_shapes(config)
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    query, key = linear["q_proj"][1], linear["k_proj"][1]
    norms = 8 * hidden
    adapters = sum(4 * (a + setup.rank) for a, _ in target_shapes(setup))
    attention = size * (2 * query + 2 * (query if setup.padded else key)) + 4 * heads
    mlp = 3 * size * config["intermediate_size"]
    trained = 2 * size * (hidden * 2 + query) if setup.method == "full" else 0
    return norms + adapters + attention + mlp + trained


def peak_parts(setup: Setup) -> tuple[str, dict[str, float]]:
    """(phase, category -> bytes) at the peak of allocated memory: what stands there all the time, and the
    larger of two phases, the loss or the optimizer's step. Of full fine-tuning the weights are no adapters.
    """
    config, size = setup.config, setup.number_bytes
    tokens = setup.batch * setup.length
    count = trainable_parameters(setup)
    one = size if setup.method == "full" else 4  # bytes of a trainable number
    standing = {
        "weights": weight_bytes(setup),
        "adapters": 0 if setup.method == "full" else one * count,
        "optimizer": count * (2 * one if setup.optimizer == "adamw" else 2.03),
    }
    a_block = activation_bytes(setup)
    kept = size * config["hidden_size"] if setup.checkpointing else a_block
    loss = {
        "activations": tokens * kept * config["num_hidden_layers"],
        "logits": tokens * config["vocab_size"] * LOGITS_BYTES[size],
    }
    step = {"gradients": count * one, "temporaries": count * one if setup.optimizer == "adamw" else 0}
    if sum(loss.values()) >= sum(step.values()):
        return "loss", standing | loss
    return "optimizer", standing | step


def peak_bytes(setup: Setup) -> float:
    """Bytes of peak allocated memory: weights, trainable state, and the larger of two phases.

    A few percent off the traced peak for LoRA and QLoRA of packed rows; DoRA and padding need the trace.
    """
    return sum(peak_parts(setup)[1].values())
