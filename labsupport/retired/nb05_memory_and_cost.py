"""Exercises that notebook 05 had before; copies of it in a learner's folder still ask for them."""

from __future__ import annotations

from labsupport.checking.exercise import Exercise, told
from labsupport.configs import model_configs
from labsupport.cost import operations
from labsupport.planning import closed_form
from labsupport.setups.setup import Setup
from labsupport.sizes import counting

recipe_bytes = Exercise(
    name="memory_and_cost.recipe_bytes",
    reference=lambda weight, gradient, moment, master: weight + gradient + 2 * moment + 4 * master,
    cases=[(2, 2, 1, False), (2, 2, 4, True), (4, 4, 4, False), (2, 4, 1, True)],
    hints=["Weight, gradient, Adam's two moments, and perhaps a float32 copy of the weight: 4 bytes."],
)


def _run_cost(per_token, tokens, cards, tflops, share, rate):
    hours = per_token * tokens / (cards * tflops * 1e12 * share) / 3600
    return hours, hours * cards * rate


run_cost = Exercise(
    name="memory_and_cost.run_cost",
    reference=_run_cost,
    cases=[(4.7e10, 2_000_000, 1, 121.0, 0.3, 0.8), (3.2e10, 50_000_000, 4, 312.0, 0.25, 2.0)],
    hints=[
        "hours = per_token x tokens / (cards x tflops x 1e12 x share) / 3600; money = hours x cards x rate."
    ],
)

# ---------------------------------------------------------------- of a plain loop alone


def _kept_by_a_block(config, rank):
    return closed_form.activation_bytes(Setup(config, rank=rank, padded=False, trainer="plain"))


def _inputs(config, *names):
    return sum(counting.block_shapes(config)[name][0] for name in names)


kept_by_a_block = Exercise(
    name="memory_and_cost.kept_by_a_block",
    reference=_kept_by_a_block,
    cases=lambda: [
        (model_configs.find("llama-3.1-8b"), 16),
        (model_configs.find("llama-2-7b"), 64),
        (model_configs.find("smollm2-135m"), 8),
        (model_configs.checked(model_configs.OWN_HEAD_DIM), 16),
    ],
    mistakes=told(
        lambda config, rank: (
            _kept_by_a_block(config, rank) - 4 * _inputs(config, "k_proj", "v_proj", "up_proj")
        ),
        "q, k and v read the same numbers, and so do gate and up, but PEFT casts them for each adapter.",
        lambda config, rank: (
            _kept_by_a_block(config, rank) - 2 * (_inputs(config, *counting.ALL_LINEAR) + 7 * rank)
        ),
        "The adapters are float32: their inputs and what A gives take 4 bytes a number.",
        lambda config, rank: _kept_by_a_block(config, rank) - 4 * 7 * rank,
        "Each adapter also keeps what A gives: rank numbers in float32.",
        lambda config, rank: _kept_by_a_block(config, rank) - 4 * config["hidden_size"],
        "A block has two norms, and each keeps its input in float32: 8 bytes a hidden number.",
    ),
    hints=[
        "Go down the table: width times bytes for each row, times how often it is there.",
        "8h + 4 (seven inputs + 7r) + 2 (2q + 2k) + 4 heads + 6f, with h hidden, f intermediate.",
    ],
)

peak_bytes = Exercise(
    name="memory_and_cost.peak_bytes",
    reference=lambda standing, activations, logits, gradients: (
        standing + max(activations + logits, 2 * gradients)
    ),
    cases=[
        (16_600, 590, 3_680, 168),
        (48_200, 134, 920, 16_061),
        (6_200, 18_900, 3_680, 168),
        (900, 300, 200, 1_500),
        (2_000, 700, 500, 900),
    ],
    mistakes=told(
        lambda standing, kept, logits, gradients: standing + kept + logits + gradients,
        "That is the sum of a table's rows: they are not all there at the same moment.",
        lambda standing, kept, logits, gradients: standing + kept + logits,
        "That is the loss alone: with large gradients the optimizer's step needs more.",
        lambda standing, kept, logits, gradients: max(kept + logits, 2 * gradients),
        "What stands is missing: it is there in both phases.",
    ),
    hints=["standing + max(activations and logits, gradients and a temporary as large)."],
)


def _peak(config, method, rank, tokens):
    """Bytes at the loss or in the optimizer's step of a packed plain loop with checkpointing."""
    run = Setup(config, method, rank, batch=1, length=tokens, padded=False, trainer="plain")
    count = closed_form.trainable_parameters(run)
    kept = 2 * config["hidden_size"] * config["num_hidden_layers"]
    loss = tokens * (kept + closed_form.LOGITS_BYTES[2] * config["vocab_size"])
    return closed_form.weight_bytes(run) + 12 * count + max(loss, 8 * count)


def _recipe_for(config, rank, length, usable, methods=("lora", "qlora")):
    for method in methods:
        rows = 0
        while _peak(config, method, rank, (rows + 1) * length) <= usable:
            rows += 1
        if rows:
            return method, rows
    return "neither", 0


recipe_for = Exercise(
    name="memory_and_cost.recipe_for",
    reference=lambda config, rank, length, usable: _recipe_for(config, rank, length, usable),
    cases=lambda: [
        (model_configs.find("llama-3.1-8b"), 16, 1024, 18e9),
        (model_configs.find("llama-3.1-8b"), 16, 1000, 25e9),
        (model_configs.find("llama-2-7b"), 64, 512, 16.5e9),
        (model_configs.find("llama-2-7b"), 256, 256, 24e9),
        (model_configs.find("llama-3.1-8b"), 16, 4096, 12e9),
    ],
    mistakes=told(
        lambda *given: _recipe_for(*given, methods=("qlora", "lora")),
        "You try QLoRA first: plain LoRA is the better choice wherever one row fits with it.",
        lambda *given: _recipe_for(*given, methods=("lora",)),
        "QLoRA is never tried: it comes second, where not one row fits with LoRA.",
    ),
    hints=["rows = 0; while on_paper(config, method, rank, (rows + 1) * length) <= usable: rows += 1."],
)


def _estimate(config, rows, length, epochs, speed, cards, rate):
    blocks, head = operations.weights_in_products(config)
    queries = counting.block_shapes(config)["q_proj"][1]
    scores = config["num_hidden_layers"] * 2 * length * queries
    a_token = operations.training_flops(blocks, head, counting.lora_count(config, 16), scores)
    hours = rows * length * epochs * a_token / (cards * speed) / 3600
    return hours, hours * cards * rate


estimate = Exercise(
    name="memory_and_cost.estimate",
    reference=_estimate,
    cases=lambda: [
        (model_configs.find("llama-3.1-8b"), 5000, 512, 3, 3.6e13, 1, 0.8),
        (model_configs.find("llama-2-7b"), 700, 2048, 1.5, 9e13, 4, 2.5),
        (model_configs.find("smollm2-135m"), 20_000, 300, 2, 1e13, 3, 0.45),
    ],
    mistakes=told(
        lambda *given: tuple(3600 * value for value in _estimate(*given)),
        "Operations over operations a second are seconds: divide by 3600.",
        lambda *given: (_estimate(*given)[0], _estimate(*given)[1] / given[5]),
        "The rate is for one card: several cost several times it.",
    ),
    hints=["hours = tokens x operations / (cards x speed) / 3600; money = hours x cards x rate."],
)
