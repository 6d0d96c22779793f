"""Notebook 05's exercises on memory, each with the mistakes people make."""

from __future__ import annotations

from labsupport.checking.exercise import Exercise, told
from labsupport.memory.setup import Setup
from labsupport.planning import closed_form
from labsupport.sizes import counting, model_configs

SOLUTION = "solutions/05_memory_and_cost.ipynb"

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
        (
            _too_much(lambda config, rank: -6 * config["intermediate_size"]),
            _too_much(lambda config, rank: -4 * config["intermediate_size"]),
            _too_much(lambda config, rank: -2 * config["intermediate_size"]),
        ),
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
    minutes=20,
    difficulty=3,
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
        (900, 300, 200, 1_500),
        (2_000, 700, 500, 900),
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
        lambda standing, kept, logits, gradients: max(standing + kept + logits, 2 * gradients),
        "In the optimizer's step, too, there is what stands: add it to both moments.",
        lambda standing, kept, logits, gradients: standing + max(kept, logits),
        "The moment of the optimizer's step is missing, and at the loss both are there: add them.",
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
        lambda standing, kept, logits, gradients: standing + max(kept, logits) + 2 * gradients,
        "Two moments compete: add what is there in each, and take the larger sum.",
        lambda standing, kept, logits, gradients: standing + min(kept + logits, 2 * gradients),
        "The peak is the larger of the two phases.",
    ),
    hints=[
        "Two moments: the loss (activations and logits are there) and the optimizer's step (gradients and a "
        "temporary as large).",
        "standing + max(of the two).",
    ],
    minutes=10,
    difficulty=2,
    solution=SOLUTION,
)

# ---------------------------------------------------------------- LoRA or QLoRA for a card


def _peak(config, method, rank, tokens):
    """Bytes at the peak of a packed plain loop with checkpointing, by the course's closed form."""
    run = Setup(config=config, method=method, rank=rank, batch=1, length=tokens, padded=False)
    return closed_form.peak_bytes(run)


def _recipe_for(config, rank, length, usable, peak=_peak, methods=("lora", "qlora")):
    for method in methods:
        rows = 0
        while peak(config, method, rank, (rows + 1) * length) <= usable:
            rows += 1
        if rows:
            return method, rows
    return "neither", 0


def _another(peak):
    """A wrong answer that chooses by another peak, `peak(config, method, rank, tokens)`."""
    return lambda config, rank, length, usable: _recipe_for(config, rank, length, usable, peak)


def _changed(change):
    """A wrong answer `change(method, rows, *arguments)`, which starts from the right one."""
    return lambda *arguments: change(*_recipe_for(*arguments), *arguments)


def _loss_alone(config, method, rank, tokens):
    run = Setup(config=config, method=method, rank=rank, batch=1, length=tokens, padded=False)
    _, parts = closed_form.peak_parts(run)
    standing = parts["weights"] + parts["adapters"] + parts["optimizer"]
    a_token = 2 * config["hidden_size"] * config["num_hidden_layers"] + 14 * config["vocab_size"]
    return standing + tokens * a_token


def _all_in_nf4(config, method, rank, tokens):
    whole = 2 * config["vocab_size"] * config["hidden_size"] * (1 if config["tie_word_embeddings"] else 2)
    less = whole * (1 - closed_form.NF4_BYTES[True] / 2) if method == "qlora" else 0
    return _peak(config, method, rank, tokens) - less


def _by_rows(config, rank, length, usable):
    """The method with which more rows fit."""
    found = [_recipe_for(config, rank, length, usable, methods=(name,)) for name in ("lora", "qlora")]
    return max(found, key=lambda answer: answer[1])


def _recipe_cases():
    llama2, llama3 = model_configs.find("llama-2-7b"), model_configs.find("llama-3.1-8b")
    exact = _peak(llama3, "lora", 16, 3 * 1000)
    return [
        (llama3, 16, 1000, exact),  # three rows fit exactly
        (llama3, 16, 1024, 18e9),
        (llama2, 64, 512, 16.5e9),
        (llama2, 256, 256, 24e9),  # LoRA's loss would fit, its optimizer's step does not
        (llama3, 16, 4096, 12e9),  # neither, unless embeddings and head were in 4 bits
        (model_configs.find("smollm2-135m"), 8, 300, 1e9),
        (model_configs.find("llama-3-70b"), 16, 512, 39e9),
    ]


recipe_for = Exercise(
    name="memory_and_cost.recipe_for",
    reference=lambda config, rank, length, usable: _recipe_for(config, rank, length, usable),
    cases=_recipe_cases,
    mistakes=told(
        lambda *arguments: _recipe_for(*arguments, methods=("qlora", "lora")),
        "You try QLoRA first: plain LoRA is the better choice wherever one row fits with it.",
        _by_rows,
        "You take the method with more rows; plain LoRA comes first if at least one row fits.",
        lambda *arguments: _recipe_for(*arguments, methods=("lora",)),
        "QLoRA is never tried: it comes second, where not one row fits with LoRA.",
        _changed(lambda method, rows, *rest: (method, min(rows, 1))),
        "The method is right; the rows are the most that fit, not one.",
        _changed(lambda method, rows, *rest: (method, rows + 1)),
        "One row too many: the number that you return does not fit any more.",
        _changed(lambda method, rows, *rest: (method, max(0, rows - 1))),
        "One row too few: the next one would still fit.",
        _changed(lambda method, rows, config, rank, length, usable: (method, rows * length)),
        "Those are tokens: divide by the tokens of a row.",
        lambda config, rank, length, usable: _recipe_for(
            config, rank, length, usable, lambda *a: _peak(*a) * (1 + 1e-12)
        ),
        "A peak of exactly the usable bytes fits: compare with <=.",
        _another(_loss_alone),
        "That is the loss alone: with a large rank and short rows the optimizer's step needs more.",
        _another(_all_in_nf4),
        "Only the blocks' linear layers are in 4 bits; embeddings and head keep 2 bytes a weight.",
        _another(lambda config, method, rank, tokens: _peak(config, method, 16, tokens)),
        "The rank is an argument: adapters, their moments and their gradients grow with it.",
    ),
    hints=[
        "on_paper(config, method, rank, tokens) has the bytes at the peak; a step of n rows has n x length "
        "tokens.",
        'For "lora", then for "qlora": count rows up as long as one more still fits.',
        "rows = 0; while on_paper(config, method, rank, (rows + 1) * length) <= usable: rows += 1.",
    ],
    minutes=20,
    difficulty=2,
    solution=SOLUTION,
)
