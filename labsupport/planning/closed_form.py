"""The planner's answer in one screen of arithmetic, without any tracing: what a learner can do on paper."""

from __future__ import annotations

from labsupport.configs import architectures
from labsupport.core import dtypes
from labsupport.setups.setup import Setup
from labsupport.sizes import counting

NF4_BYTES = {True: (4 + 8 / 64 + 32 / (64 * 256)) / 8, False: (4 + 32 / 64) / 8}  # QLoRA paper, section 3
TOO_HIGH = 1.2  # at most this much of the traced peak; test_vram_planner_explorer.py traces some
# Linear layers of a block that read the same tensor; o_proj's input is kept as the attention's output anyway.
SHARED_INPUTS = {"q_proj": "norm", "k_proj": "norm", "v_proj": "norm", "down_proj": "product"}
SHARED_INPUTS |= {"gate_proj": "second norm", "up_proj": "second norm"}
TILE = (4096, 32768)  # positions and words of TRL's fused head at once (trl 1.16, kernels/chunked_logprob.py)
LOGITS_BYTES = {2: 14, 4: 16}  # bytes a token and word: logits, float32 copy, log-softmax, two gradients


def target_shapes(setup: Setup) -> list[tuple[int, int]]:
    """The shapes of the layers of one block that get an adapter."""
    if setup.method == "full":
        return []
    shapes = counting.adapter_shapes(setup.config)
    return (
        list(shapes.values()) if setup.targets == "all-linear" else [shapes[name] for name in setup.targets]
    )


def weight_bytes(setup: Setup) -> float:
    """Bytes of the model's weights as they are loaded: 4 bits in the blocks, if asked, else the dtype's."""
    config, size = setup.config, setup.number_bytes
    in_blocks = config["num_hidden_layers"] * sum(a * b for a, b in counting.block_shapes(config).values())
    experts = architectures.expert_parameters(config)
    experts = config["num_hidden_layers"] * sum(count * a * b for count, a, b in experts.values())
    tables = 1 if config.get("tie_word_embeddings") else 2
    outside = tables * config["vocab_size"] * config["hidden_size"] + experts
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

    Two norms in float32; the adapters' inputs and A outputs; queries, keys, values, output and log-sums of
    the attention; the MLP's gate, its activation and the other factor.
    """
    config, size = setup.config, setup.number_bytes
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    query, key = architectures.widths(config)
    norms = 8 * hidden
    attention = size * (2 * query + 2 * (query if setup.padded else key)) + 4 * heads
    mlp = 3 * size * config["intermediate_size"]
    trained = 2 * size * (hidden * 2 + query) if setup.method == "full" else 0
    return norms + adapter_input_bytes(setup) + attention + mlp + trained


def adapter_input_bytes(setup: Setup) -> int:
    """Bytes a token that the adapters of a block keep: their inputs, and what A makes of them.

    Adapters in float32 get a copy each, in float32; autocast makes 16 bits of it. Otherwise one input serves
    all that read it, and o_proj's is kept anyway.
    """
    if not share_inputs(setup):
        size = 2 if setup.autocasts else 4
        return sum(size * (inputs + setup.rank) for inputs, _ in target_shapes(setup))
    shapes = counting.adapter_shapes(setup.config)
    names = shapes if setup.targets == "all-linear" else setup.targets
    inputs = {SHARED_INPUTS[name]: shapes[name][0] for name in names if name in SHARED_INPUTS}
    return 2 * (sum(inputs.values()) + setup.rank * len(names))


def share_inputs(setup: Setup) -> bool:
    """Whether adapters take their inputs as they are: in bfloat16, or on 4 bits under autocast, where PEFT
    leaves the cast to it (peft 0.21, tuners/lora/bnb.py, Linear4bit.forward)."""
    return setup.adapters_in == "bfloat16" or (setup.four_bit and setup.autocasts)


def moments(setup: Setup) -> dict[str, dict[str, float]]:
    """Moment -> category -> bytes beyond what always stands there: when the loss is made, when the last block
    goes backward, and when the optimizer steps."""
    config, size = setup.config, setup.number_bytes
    tokens, inner = setup.batch * setup.length, config["intermediate_size"]
    gradients = trainable_parameters(setup) * trainable_bytes(setup)
    a_block = activation_bytes(setup)
    kept = size * config["hidden_size"] if setup.checkpointing else a_block
    kept = tokens * kept * config["num_hidden_layers"]
    alive = gradients if setup.accumulation > 1 else 0  # those of the micro-batches before
    passing = 3 * size * inner * tokens
    if setup.four_bit:  # a product's 16-bit weight, where there are few tokens
        passing = max(passing, 2 * size * inner * tokens + size * inner * config["hidden_size"])
    again = tokens * a_block if setup.checkpointing else 0
    return {
        "loss": {"activations": kept, "gradients": alive} | head_parts(setup),
        "backward": {"activations": kept + again, "temporaries": passing, "gradients": alive},
        "optimizer": {"gradients": gradients, "temporaries": gradients if foreach(setup) else 0},
    }


def head_parts(setup: Setup) -> dict[str, float]:
    """Category -> bytes at the head. A plain loop: the logits of every token. TRL: a tile of supervised
    positions and words, or the last norm's way back in float32, which comes after it."""
    config, size = setup.config, setup.number_bytes
    tokens = setup.batch * setup.length
    if setup.trainer == "plain":
        return {"logits": tokens * config["vocab_size"] * LOGITS_BYTES[size], "temporaries": 0}
    positions, words = min(setup.supervised * tokens, TILE[0]), min(config["vocab_size"], TILE[1])
    tile, norm = positions * words * size, 24 * tokens * config["hidden_size"]
    return {"logits": tile, "temporaries": 0} if tile > norm else {"logits": 0, "temporaries": norm}


def trainable_bytes(setup: Setup) -> int:
    """Bytes of one trainable number: a weight's in full fine-tuning, else an adapter's."""
    return setup.number_bytes if setup.method == "full" else dtypes.find(setup.adapters_in).bytes


def foreach(setup: Setup) -> bool:
    """Whether the optimizer takes all parameters at once and needs a temporary as large as they are."""
    return setup.optimizer == "adamw" and setup.trainer == "plain"


def peak_parts(setup: Setup) -> tuple[str, dict[str, float]]:
    """(moment, category -> bytes) at the peak of allocated memory: what stands there all the time, and the
    largest of three moments. Of full fine-tuning the weights are no adapters.
    """
    count, one = trainable_parameters(setup), trainable_bytes(setup)
    standing = {
        "weights": weight_bytes(setup),
        "adapters": 0 if setup.method == "full" else one * count,
        "optimizer": count * {"adamw": 2 * one, "adamw_8bit": 2.03}.get(setup.optimizer, 0),  # paged: none
    }
    phase, parts = max(moments(setup).items(), key=lambda moment: sum(moment[1].values()))
    return phase, standing | parts


def peak_bytes(setup: Setup) -> float:
    """Bytes of peak allocated memory: weights, trainable state, and the largest of three moments.

    A few percent off the traced peak for LoRA and QLoRA of packed rows; DoRA and padding need the trace.
    """
    return sum(peak_parts(setup)[1].values())
