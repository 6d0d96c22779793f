"""The exercises of notebook 05, each with the mistakes people make."""

from __future__ import annotations

from labsupport.memory import closed_form, planner
from labsupport.models import counting, model_configs
from labsupport.checking.exercise import Exercise

SOLUTION = "solutions/05_memory_and_cost.ipynb"

# ---------------------------------------------------------------- bytes a parameter


def _recipe_bytes(weight, gradient, moment, master):
    return weight + gradient + 2 * moment + (4 if master else 0)


def _one_moment(weight, gradient, moment, master):
    return weight + gradient + moment + (4 if master else 0)


def _no_gradient(weight, gradient, moment, master):
    return weight + 2 * moment + (4 if master else 0)


def _no_master(weight, gradient, moment, master):
    return weight + gradient + 2 * moment


def _master_instead(weight, gradient, moment, master):
    return (4 if master else weight) + gradient + 2 * moment


def _moments_like_weights(weight, gradient, moment, master):
    return weight + gradient + 2 * weight + (4 if master else 0)


def _master_with_moments(weight, gradient, moment, master):
    return weight + gradient + 2 * moment + (12 if master else 0)


def _bits(weight, gradient, moment, master):
    return 8 * _recipe_bytes(weight, gradient, moment, master)


recipe_bytes = Exercise(
    name="memory_and_cost.recipe_bytes",
    reference=_recipe_bytes,
    cases=[
        (2, 2, 1, False),
        (2, 2, 2, False),
        (2, 2, 4, False),
        (2, 2, 4, True),
        (4, 4, 4, False),
        (2, 4, 1, True),
    ],
    mistakes=[
        (_one_moment, "Adam keeps two moments of each parameter: a running mean and a running mean square."),
        (_no_gradient, "The gradient is missing: one for each parameter that is trained."),
        (_no_master, "With a master copy there are 4 more bytes a parameter: the weight once more."),
        (_master_instead, "A master copy is a float32 copy beside the 16-bit weight: 4 bytes more."),
        (_moments_like_weights, "Use moment: Adam's moments may have another dtype than the weights."),
        (_master_with_moments, "Only the weight has a master copy; the moments are kept once."),
        (_bits, "That is in bits; arguments and answer are bytes."),
    ],
    hints=[
        "Four things: the weight, its gradient, Adam's moments, and perhaps a float32 copy of the weight.",
        "Adam has two moments: count moment twice.",
    ],
    solution=SOLUTION,
)

# ---------------------------------------------------------------- what a block keeps for a token


def _kept_by_a_block(config, rank):
    return closed_form.activation_bytes(planner.Setup(config=config, rank=rank, padded=False))


def _block_cases():
    find = model_configs.find
    return [
        (find("llama-3.1-8b"), 16),
        (find("llama-2-7b"), 64),
        (find("smollm2-135m"), 8),
        (model_configs.checked(model_configs.OWN_HEAD_DIM), 16),
    ]


def _inputs(config, names=counting.ALL_LINEAR):
    return sum(counting.shapes(config)[name][0] for name in names)


def _cast_once(config, rank):
    return _kept_by_a_block(config, rank) - 4 * _inputs(config, ("k_proj", "v_proj", "up_proj"))


def _attention_cast_once(config, rank):
    return _kept_by_a_block(config, rank) - 4 * _inputs(config, ("k_proj", "v_proj"))


def _hidden_queries(config, rank):
    sizes = counting.shapes(config)
    return _kept_by_a_block(config, rank) - 4 * (sizes["q_proj"][1] - config["hidden_size"])


def _half_adapters(config, rank):
    return _kept_by_a_block(config, rank) - 2 * _inputs(config) - 7 * 2 * rank


def _half_inputs(config, rank):
    return _kept_by_a_block(config, rank) - 2 * _inputs(config)


def _no_adapters(config, rank):
    return _kept_by_a_block(config, rank) - 4 * _inputs(config) - 7 * 4 * rank


def _no_low_rank(config, rank):
    return _kept_by_a_block(config, rank) - 7 * 4 * rank


def _one_low_rank(config, rank):
    return _kept_by_a_block(config, rank) - 6 * 4 * rank


def _wide_keys(config, rank):
    sizes = counting.shapes(config)
    return _kept_by_a_block(config, rank) + 4 * (sizes["q_proj"][1] - sizes["k_proj"][1])


def _no_mlp(config, rank):
    return _kept_by_a_block(config, rank) - 6 * config["intermediate_size"]


def _one_norm(config, rank):
    return _kept_by_a_block(config, rank) - 4 * config["hidden_size"]


def _no_sums(config, rank):
    return _kept_by_a_block(config, rank) - 4 * config["num_attention_heads"]


def _all_blocks(config, rank):
    return _kept_by_a_block(config, rank) * config["num_hidden_layers"]


kept_by_a_block = Exercise(
    name="memory_and_cost.kept_by_a_block",
    reference=_kept_by_a_block,
    cases=_block_cases,
    mistakes=[
        (
            _cast_once,
            "q, k and v read the same numbers, and so do gate and up, but PEFT casts them for each adapter.",
        ),
        (_attention_cast_once, "q, k and v read the same numbers, but PEFT casts them for each adapter."),
        (
            _hidden_queries,
            "Queries are as wide as q_proj's output: heads x head size, not always the hidden.",
        ),
        (_half_adapters, "The adapters are float32: their inputs and what A gives take 4 bytes a number."),
        (_half_inputs, "The adapters are float32, so their inputs are kept in float32: 4 bytes each."),
        (_no_adapters, "The adapters' own rows are missing: seven inputs and seven outputs of A."),
        (_no_low_rank, "Each adapter also keeps what A gives: rank numbers in float32."),
        (_one_low_rank, "You count one output of A; there are seven adapters in a block."),
        (_wide_keys, "Keys and values are as wide as k_proj's output, narrower than the queries."),
        (_no_mlp, "The MLP keeps three tensors of its own: gate, activated gate, and up's output."),
        (_one_norm, "A block has two norms, and each keeps its input in float32: 8 bytes a hidden number."),
        (_no_sums, "The attention keeps one float32 a head: the log-sum of its softmax."),
        (_all_blocks, "That is for the whole model; the question is one block."),
    ],
    hints=[
        "Go down the table: width times bytes for each row, times how often it is there.",
        "shapes = counting.block_shapes(config) has (inputs, outputs) by module: the seven inputs are "
        "shapes[name][0], queries shapes['q_proj'][1], keys shapes['k_proj'][1].",
        "8h + 4 (seven inputs + 7r) + 2 (2q + 2k) + 4 heads + 6f, with h hidden, f intermediate.",
    ],
    solution=SOLUTION,
)

# ---------------------------------------------------------------- the peak


def _peak_bytes(standing, activations, logits, gradients):
    return standing + max(activations + logits, 2 * gradients)


def _sum_of_rows(standing, activations, logits, gradients):
    return standing + activations + logits + gradients


def _sum_of_phases(standing, activations, logits, gradients):
    return standing + activations + logits + 2 * gradients


def _without_standing(standing, activations, logits, gradients):
    return max(standing, activations + logits, 2 * gradients)


def _loss_only(standing, activations, logits, gradients):
    return standing + activations + logits


def _optimizer_only(standing, activations, logits, gradients):
    return standing + 2 * gradients


def _no_temporary(standing, activations, logits, gradients):
    return standing + max(activations + logits, gradients)


def _largest_row(standing, activations, logits, gradients):
    return standing + max(activations, logits, 2 * gradients)


def _smaller(standing, activations, logits, gradients):
    return standing + min(activations + logits, 2 * gradients)


def _nothing_stands(standing, activations, logits, gradients):
    return max(activations + logits, 2 * gradients)


def _gradients_at_the_loss(standing, activations, logits, gradients):
    return standing + max(activations + logits + gradients, 2 * gradients)


peak_bytes = Exercise(
    name="memory_and_cost.peak_bytes",
    reference=_peak_bytes,
    cases=[
        (16_600, 590, 3_680, 168),  # LoRA, one row of 2,048, checkpointing; in MB
        (48_200, 134, 920, 16_061),  # full fine-tuning of the same model
        (17_800, 134, 230, 671),  # rank 64 and short rows
        (6_200, 18_900, 3_680, 168),
    ],
    mistakes=[
        (_sum_of_rows, "That is the sum of a table's rows: they are not all there at the same moment."),
        (_sum_of_phases, "You add the two phases; the peak is the larger of the two."),
        (_without_standing, "What stands, stands during both phases: add it to the larger one."),
        (_loss_only, "That is the loss alone: with large gradients the optimizer's step needs more."),
        (_optimizer_only, "That is the optimizer's step alone: with long rows the loss needs more."),
        (_no_temporary, "AdamW needs a temporary as large as the gradients beside the gradients."),
        (_nothing_stands, "What stands is missing: it is there in both phases."),
        (_gradients_at_the_loss, "At the loss the gradients are not there: zero_grad freed them."),
        (_largest_row, "Activations and logits are there together, when the loss is computed."),
        (_smaller, "The peak is the larger of the two phases."),
    ],
    hints=[
        "Two moments: the loss (activations and logits are there) and the optimizer's step (gradients and a "
        "temporary as large).",
        "standing + max(of the two).",
    ],
    solution=SOLUTION,
)

# ---------------------------------------------------------------- operations a token


def _operations(blocks, head, adapters, scores, checkpointing):
    forward = 2 * (blocks + adapters) + scores
    backward = 2 * forward - 2 * blocks
    return forward * (2 if checkpointing else 1) + backward + 4 * head


def _six_everywhere(blocks, head, adapters, scores, checkpointing):
    forward = 2 * (blocks + adapters) + scores
    return forward * (4 if checkpointing else 3) + 6 * head


def _six_in_blocks(blocks, head, adapters, scores, checkpointing):
    return _operations(blocks, head, adapters, scores, checkpointing) + 2 * blocks


def _six_in_head(blocks, head, adapters, scores, checkpointing):
    return _operations(blocks, head, adapters, scores, checkpointing) + 2 * head


def _adapters_only_back(blocks, head, adapters, scores, checkpointing):
    forward = 2 * (blocks + adapters) + scores
    return forward * (2 if checkpointing else 1) + 4 * adapters


def _frozen_adapters(blocks, head, adapters, scores, checkpointing):
    return _operations(blocks, head, adapters, scores, checkpointing) - 2 * adapters


def _never_again(blocks, head, adapters, scores, checkpointing):
    return _operations(blocks, head, adapters, scores, False)


def _always_again(blocks, head, adapters, scores, checkpointing):
    return _operations(blocks, head, adapters, scores, True)


def _head_again(blocks, head, adapters, scores, checkpointing):
    return _operations(blocks, head, adapters, scores, checkpointing) + (2 * head if checkpointing else 0)


def _scores_once_back(blocks, head, adapters, scores, checkpointing):
    return _operations(blocks, head, adapters, scores, checkpointing) - scores


def _products(blocks, head, adapters, scores, checkpointing):
    return (_operations(blocks, head, adapters, 2 * scores, checkpointing)) // 2


def _no_head(blocks, head, adapters, scores, checkpointing):
    return _operations(blocks, 0, adapters, scores, checkpointing)


def _operation_cases():
    from labsupport.memory import cost

    found = []
    for name, rank, length, checkpointing in (
        ("llama-3.1-8b", 16, 2048, True),
        ("llama-3.1-8b", 16, 2048, False),
        ("smollm2-135m", 64, 512, True),
    ):
        config = model_configs.find(name)
        query = counting.block_shapes(config)["q_proj"][1]
        scores = config["num_hidden_layers"] * 2 * length * query
        blocks, head = cost.weights_in_products(config)
        found.append((blocks, head, counting.lora_count(config, rank), scores, checkpointing))
    return found


operations = Exercise(
    name="memory_and_cost.operations",
    reference=_operations,
    cases=_operation_cases,
    mistakes=[
        (_six_everywhere, "That is full fine-tuning's rule: a frozen weight needs no gradient of its own."),
        (_six_in_blocks, "The blocks' weights are frozen: no 2 operations for their own gradient."),
        (_six_in_head, "The head is frozen, too: 2 operations forwards and 2 backwards."),
        (_adapters_only_back, "The gradient must pass through the frozen weights to reach lower adapters."),
        (_frozen_adapters, "The adapters are trained: 2 more operations for their own gradient."),
        (_never_again, "With checkpointing the blocks are computed forwards once more."),
        (_always_again, "The blocks are computed again only where checkpointing is on."),
        (_head_again, "The head lies behind the blocks: checkpointing does not repeat it."),
        (_scores_once_back, "The scores are a product of two computed things: twice the work backwards."),
        (_products, "A weight costs a multiplication and an addition: 2 operations."),
        (_no_head, "The output head is missing; with a large vocabulary that is a lot."),
    ],
    hints=[
        "Write forward first: 2 (blocks + adapters) + scores; the head apart.",
        "Backwards everything costs twice its forward, less 2 a frozen weight.",
        "forward x (2 if checkpointing else 1) + 2 forward - 2 blocks + 4 head.",
    ],
    solution=SOLUTION,
)

# ---------------------------------------------------------------- hours and money


def _run_cost(per_token, tokens, cards, tflops, share, rate):
    hours = per_token * tokens / (cards * tflops * 1e12 * share) / 3600
    return hours, hours * cards * rate


def _changed(function):
    """A wrong answer that changes hours and money of the right one."""

    def wrong(per_token, tokens, cards, tflops, share, rate):
        hours, _ = _run_cost(per_token, tokens, cards, tflops, share, rate)
        return function(hours, cards, share, rate)

    return wrong


run_cost = Exercise(
    name="memory_and_cost.run_cost",
    reference=_run_cost,
    cases=[(4.7e10, 2_000_000, 1, 121.0, 0.3, 0.8), (3.2e10, 50_000_000, 4, 312.0, 0.25, 2.0)],
    mistakes=[
        (
            _changed(lambda h, n, s, r: (3600 * h, 3600 * h * n * r)),
            "Operations over operations a second are seconds: divide by 3600.",
        ),
        (_changed(lambda h, n, s, r: (h, h * r)), "The rate is for one card: several cost several times it."),
        (
            _changed(lambda h, n, s, r: (h * n, h * n * n * r)),
            "Several cards share the work: divide the time by their number.",
        ),
        (
            _changed(lambda h, n, s, r: (h * n, h * n * r)),
            "Your hours are card hours; the clock shows them divided by the cards.",
        ),
        (
            _changed(lambda h, n, s, r: (h * s, h * s * n * r)),
            "No card reaches its promised speed: divide by the share it sustains.",
        ),
        (
            _changed(lambda h, n, s, r: (h * s * s, h * s * s * n * r)),
            "You multiply by the share; a smaller share takes longer: divide.",
        ),
        (
            _changed(lambda h, n, s, r: (h * 1e12, h * 1e12 * n * r)),
            "A TFLOP/s is 1e12 operations a second.",
        ),
        (_changed(lambda h, n, s, r: (h * n * r, h)), "The other way round: hours first, then money."),
        (_changed(lambda h, n, s, r: (h, h * n / r)), "Money is hours times the rate, not divided by it."),
    ],
    hints=[
        "All operations: per_token x tokens. Speed: cards x tflops x 1e12 x share, a second.",
        "hours = operations / speed / 3600; money = hours x cards x rate.",
    ],
    solution=SOLUTION,
)
