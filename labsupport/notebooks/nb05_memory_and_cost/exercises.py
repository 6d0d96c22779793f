"""The exercises of notebook 05, each with the mistakes people make."""

from __future__ import annotations

from labsupport.checking.exercise import Exercise
from labsupport.cost import cost_model
from labsupport.memory import closed_form
from labsupport.memory.setup import Setup
from labsupport.sizes import counting, model_configs

SOLUTION = "solutions/05_memory_and_cost.ipynb"


def told(*wrong_and_message) -> list[tuple]:
    """An Exercise's mistakes, written one after the other: a wrong answer, then what its author is told."""
    return list(zip(wrong_and_message[::2], wrong_and_message[1::2], strict=True))


# ---------------------------------------------------------------- bytes a parameter


def _recipe_bytes(weight, gradient, moment, master):
    return weight + gradient + 2 * moment + (4 if master else 0)


recipe_bytes = Exercise(
    name="memory_and_cost.recipe_bytes",
    reference=_recipe_bytes,
    cases=[(2, 2, 1, False), (2, 2, 2, False), (2, 2, 4, False)]
    + [(2, 2, 4, True), (4, 4, 4, False), (2, 4, 1, True)],
    mistakes=told(
        lambda weight, gradient, moment, master: weight + gradient + moment + 4 * master,
        "Adam keeps two moments of each parameter: a running mean and a running mean square.",
        lambda weight, gradient, moment, master: weight + 2 * moment + 4 * master,
        "The gradient is missing: one for each parameter that is trained.",
        lambda weight, gradient, moment, master: weight + gradient + 2 * moment,
        "With a master copy there are 4 more bytes a parameter: the weight once more.",
        lambda weight, gradient, moment, master: (4 if master else weight) + gradient + 2 * moment,
        "A master copy is a float32 copy beside the 16-bit weight: 4 bytes more.",
        lambda weight, gradient, moment, master: weight + gradient + 2 * weight + 4 * master,
        "Use moment: Adam's moments may have another dtype than the weights.",
        lambda weight, gradient, moment, master: weight + gradient + 2 * moment + 12 * master,
        "Only the weight has a master copy; the moments are kept once.",
        lambda *parts: 8 * _recipe_bytes(*parts),
        "That is in bits; arguments and answer are bytes.",
    ),
    hints=[
        "Four things: the weight, its gradient, Adam's moments, and perhaps a float32 copy of the weight.",
        "Adam has two moments: count moment twice.",
    ],
    solution=SOLUTION,
)

# ---------------------------------------------------------------- what a block keeps for a token


def _kept_by_a_block(config, rank):
    return closed_form.activation_bytes(Setup(config=config, rank=rank, padded=False))


def _too_much(by):
    """A wrong answer that is `by(config, rank)` bytes above the right one; below, where that is negative."""
    return lambda config, rank: _kept_by_a_block(config, rank) + by(config, rank)


def _inputs(config, names=counting.ALL_LINEAR):
    return sum(counting.shapes(config)[name][0] for name in names)


def _outputs(config, name):
    return counting.shapes(config)[name][1]


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
        _too_much(lambda config, rank: -4 * _inputs(config, ("k_proj", "v_proj", "up_proj"))),
        "q, k and v read the same numbers, and so do gate and up, but PEFT casts them for each adapter.",
        _too_much(lambda config, rank: -4 * _inputs(config, ("k_proj", "v_proj"))),
        "q, k and v read the same numbers, but PEFT casts them for each adapter.",
        _too_much(lambda config, rank: 4 * (config["hidden_size"] - _outputs(config, "q_proj"))),
        "Queries are as wide as q_proj's output: heads x head size, not always the hidden.",
        _too_much(lambda config, rank: -2 * (_inputs(config) + 7 * rank)),
        "The adapters are float32: their inputs and what A gives take 4 bytes a number.",
        _too_much(lambda config, rank: -2 * _inputs(config)),
        "The adapters are float32, so their inputs are kept in float32: 4 bytes each.",
        _too_much(lambda config, rank: -4 * (_inputs(config) + 7 * rank)),
        "The adapters' own rows are missing: seven inputs and seven outputs of A.",
        _too_much(lambda config, rank: -4 * 7 * rank),
        "Each adapter also keeps what A gives: rank numbers in float32.",
        _too_much(lambda config, rank: -4 * 6 * rank),
        "You count one output of A; there are seven adapters in a block.",
        _too_much(lambda config, rank: 4 * (_outputs(config, "q_proj") - _outputs(config, "k_proj"))),
        "Keys and values are as wide as k_proj's output, narrower than the queries.",
        _too_much(lambda config, rank: -6 * config["intermediate_size"]),
        "The MLP keeps three tensors of its own: gate, activated gate, and up's output.",
        _too_much(lambda config, rank: -4 * config["hidden_size"]),
        "A block has two norms, and each keeps its input in float32: 8 bytes a hidden number.",
        _too_much(lambda config, rank: -4 * config["num_attention_heads"]),
        "The attention keeps one float32 a head: the log-sum of its softmax.",
        lambda config, rank: _kept_by_a_block(config, rank) * config["num_hidden_layers"],
        "That is for the whole model; the question is one block.",
    ),
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


peak_bytes = Exercise(
    name="memory_and_cost.peak_bytes",
    reference=_peak_bytes,
    cases=[
        (16_600, 590, 3_680, 168),  # LoRA, one row of 2,048, checkpointing; in MB
        (48_200, 134, 920, 16_061),  # full fine-tuning of the same model
        (17_800, 134, 230, 671),  # rank 64 and short rows
        (6_200, 18_900, 3_680, 168),
    ],
    mistakes=told(
        lambda standing, kept, logits, gradients: standing + kept + logits + gradients,
        "That is the sum of a table's rows: they are not all there at the same moment.",
        lambda standing, kept, logits, gradients: standing + kept + logits + 2 * gradients,
        "You add the two phases; the peak is the larger of the two.",
        lambda standing, kept, logits, gradients: max(standing, kept + logits, 2 * gradients),
        "What stands, stands during both phases: add it to the larger one.",
        lambda standing, kept, logits, gradients: standing + kept + logits,
        "That is the loss alone: with large gradients the optimizer's step needs more.",
        lambda standing, kept, logits, gradients: standing + 2 * gradients,
        "That is the optimizer's step alone: with long rows the loss needs more.",
        lambda standing, kept, logits, gradients: standing + max(kept + logits, gradients),
        "AdamW needs a temporary as large as the gradients beside the gradients.",
        lambda standing, kept, logits, gradients: max(kept + logits, 2 * gradients),
        "What stands is missing: it is there in both phases.",
        lambda standing, kept, logits, gradients: standing + max(kept + logits + gradients, 2 * gradients),
        "At the loss the gradients are not there: zero_grad freed them.",
        lambda standing, kept, logits, gradients: standing + max(kept, logits, 2 * gradients),
        "Activations and logits are there together, when the loss is computed.",
        lambda standing, kept, logits, gradients: standing + min(kept + logits, 2 * gradients),
        "The peak is the larger of the two phases.",
    ),
    hints=[
        "Two moments: the loss (activations and logits are there) and the optimizer's step (gradients and a "
        "temporary as large).",
        "standing + max(of the two).",
    ],
    solution=SOLUTION,
)

# ---------------------------------------------------------------- operations a token


def _operations(blocks, head, adapters, scores, checkpointing):
    return cost_model.training_flops(blocks, head, adapters, scores, checkpointing=checkpointing)


def _also(more):
    """A wrong answer that adds `more(blocks, head, adapters, scores, checkpointing)` to the right one."""
    return lambda *arguments: _operations(*arguments) + more(*arguments)


def _operation_cases():
    cases = []
    for name, rank, length, checkpointing in (
        ("llama-3.1-8b", 16, 2048, True),
        ("llama-3.1-8b", 16, 2048, False),
        ("smollm2-135m", 64, 512, True),
    ):
        config = model_configs.find(name)
        scores = config["num_hidden_layers"] * 2 * length * _outputs(config, "q_proj")
        blocks, head = cost_model.weights_in_products(config)
        cases.append((blocks, head, counting.lora_count(config, rank), scores, checkpointing))
    return cases


operations = Exercise(
    name="memory_and_cost.operations",
    reference=_operations,
    cases=_operation_cases,
    mistakes=told(
        _also(lambda blocks, head, adapters, scores, again: 2 * blocks + 2 * head),
        "That is full fine-tuning's rule: a frozen weight needs no gradient of its own.",
        _also(lambda blocks, head, adapters, scores, again: 2 * blocks),
        "The blocks' weights are frozen: no 2 operations for their own gradient.",
        _also(lambda blocks, head, adapters, scores, again: 2 * head),
        "The head is frozen, too: 2 operations forwards and 2 backwards.",
        _also(lambda blocks, head, adapters, scores, again: -2 * blocks - 4 * head - 2 * scores),
        "The gradient must pass through the frozen weights to reach lower adapters.",
        _also(lambda blocks, head, adapters, scores, again: -2 * adapters),
        "The adapters are trained: 2 more operations for their own gradient.",
        lambda blocks, head, adapters, scores, again: _operations(blocks, head, adapters, scores, False),
        "With checkpointing the blocks are computed forwards once more.",
        lambda blocks, head, adapters, scores, again: _operations(blocks, head, adapters, scores, True),
        "The blocks are computed again only where checkpointing is on.",
        _also(lambda blocks, head, adapters, scores, again: 2 * head * again),
        "The head lies behind the blocks: checkpointing does not repeat it.",
        _also(lambda blocks, head, adapters, scores, again: -scores),
        "The scores are a product of two computed things: twice the work backwards.",
        lambda blocks, head, adapters, scores, again: (
            _operations(blocks, head, adapters, 2 * scores, again) // 2
        ),
        "A weight costs a multiplication and an addition: 2 operations.",
        lambda blocks, head, adapters, scores, again: _operations(blocks, 0, adapters, scores, again),
        "The output head is missing; with a large vocabulary that is a lot.",
    ),
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


def _from_right(changed):
    """A wrong answer `changed(hours, cards, share, rate)`, which starts from the right hours."""

    def wrong(per_token, tokens, cards, tflops, share, rate):
        hours, _ = _run_cost(per_token, tokens, cards, tflops, share, rate)
        return changed(hours, cards, share, rate)

    return wrong


run_cost = Exercise(
    name="memory_and_cost.run_cost",
    reference=_run_cost,
    cases=[(4.7e10, 2_000_000, 1, 121.0, 0.3, 0.8), (3.2e10, 50_000_000, 4, 312.0, 0.25, 2.0)],
    mistakes=told(
        _from_right(lambda hours, cards, share, rate: (3600 * hours, 3600 * hours * cards * rate)),
        "Operations over operations a second are seconds: divide by 3600.",
        _from_right(lambda hours, cards, share, rate: (hours, hours * rate)),
        "The rate is for one card: several cost several times it.",
        _from_right(lambda hours, cards, share, rate: (hours * cards, hours * cards * cards * rate)),
        "Several cards share the work: divide the time by their number.",
        _from_right(lambda hours, cards, share, rate: (hours * cards, hours * cards * rate)),
        "Your hours are card hours; the clock shows them divided by the cards.",
        _from_right(lambda hours, cards, share, rate: (hours * share, hours * share * cards * rate)),
        "No card reaches its promised speed: divide by the share it sustains.",
        _from_right(lambda hours, cards, share, rate: (hours * share**2, hours * share**2 * cards * rate)),
        "You multiply by the share; a smaller share takes longer: divide.",
        _from_right(lambda hours, cards, share, rate: (hours * 1e12, hours * 1e12 * cards * rate)),
        "A TFLOP/s is 1e12 operations a second.",
        _from_right(lambda hours, cards, share, rate: (hours * cards * rate, hours)),
        "The other way round: hours first, then money.",
        _from_right(lambda hours, cards, share, rate: (hours, hours * cards / rate)),
        "Money is hours times the rate, not divided by it.",
    ),
    hints=[
        "All operations: per_token x tokens. Speed: cards x tflops x 1e12 x share, a second.",
        "hours = operations / speed / 3600; money = hours x cards x rate.",
    ],
    solution=SOLUTION,
)
