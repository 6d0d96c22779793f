"""Notebook 05's exercises on cost, each with the mistakes people make."""

from __future__ import annotations

from labsupport.checking.exercise import Exercise, told
from labsupport.cost import cost_model
from labsupport.sizes import counting, model_configs

SOLUTION = "solutions/05_memory_and_cost.ipynb"


def _query_width(config):
    return counting.block_shapes(config)["q_proj"][1]


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
        scores = config["num_hidden_layers"] * 2 * length * _query_width(config)
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
        _also(lambda blocks, head, adapters, scores, again: -2 * blocks - 2 * head),
        "Frozen weights work backwards, too: 2 operations each to pass the gradient on to what lies below.",
        _also(lambda blocks, head, adapters, scores, again: -2 * blocks - 2 * head - 2 * scores),
        "Backwards you count the adapters alone; the gradient passes the frozen weights and the scores.",
        _also(lambda blocks, head, adapters, scores, again: -2 * adapters),
        "The adapters are trained: 2 more operations for their own gradient.",
        lambda blocks, head, adapters, scores, again: 2 * (blocks + head + adapters) + scores,
        "That is the forward pass alone: training goes backwards, too.",
        lambda blocks, head, adapters, scores, again: _operations(blocks, head, adapters, scores, False),
        "With checkpointing the blocks are computed forwards once more.",
        lambda blocks, head, adapters, scores, again: _operations(blocks, head, adapters, scores, True),
        "The blocks are computed again only where checkpointing is on.",
        _also(lambda blocks, head, adapters, scores, again: 2 * head * again),
        "The head lies behind the blocks: checkpointing does not repeat it.",
        _also(lambda blocks, head, adapters, scores, again: -2 * adapters - scores),
        "Backwards what is trained costs twice its forward: once for the inputs, once for itself.",
        _also(lambda blocks, head, adapters, scores, again: (3 + again) * scores),
        "The scores are operations already: do not double them as you do weights.",
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
    minutes=15,
    difficulty=3,
    solution=SOLUTION,
)

# ---------------------------------------------------------------- hours and money


def _estimate(config, rows, length, epochs, speed, cards, rate, checkpointing=True, change=None, rank=16):
    blocks, head = cost_model.weights_in_products(config)
    scores = config["num_hidden_layers"] * 2 * length * _query_width(config)
    parts = [blocks, head, counting.lora_count(config, rank), scores]
    a_token = _operations(*(change(parts) if change else parts), checkpointing)
    hours = rows * length * epochs * a_token / (cards * speed) / 3600
    return hours, hours * cards * rate


def _from_right(changed):
    """A wrong answer `changed(hours, money, arguments by name)`, which starts from the right one."""
    names = ("config", "rows", "length", "epochs", "speed", "cards", "rate")
    return lambda *values: changed(*_estimate(*values), dict(zip(names, values, strict=True)))


def _counted(change):
    """A wrong answer that counts other operations: `change` gets and returns [blocks, head, adapters,
    scores]."""
    return lambda *arguments: _estimate(*arguments, change=change)


def _forward_only(config, rows, length, epochs, speed, cards, rate):
    blocks, head = cost_model.weights_in_products(config)
    right = _estimate(config, rows, length, epochs, speed, cards, rate)
    hours = right[0] - rows * length * epochs * 2 * (blocks + head) / (cards * speed) / 3600
    return hours, hours * cards * rate


estimate = Exercise(
    name="memory_and_cost.estimate",
    reference=lambda config, rows, length, epochs, speed, cards, rate: _estimate(
        config, rows, length, epochs, speed, cards, rate
    ),
    cases=lambda: [
        (model_configs.find("llama-3.1-8b"), 5000, 512, 3, 3.6e13, 1, 0.8),
        (model_configs.find("llama-2-7b"), 700, 2048, 1.5, 9e13, 4, 2.5),
        (model_configs.find("smollm2-135m"), 20_000, 300, 2, 1e13, 3, 0.45),
        (model_configs.checked(model_configs.OWN_HEAD_DIM), 4_000_000, 2000, 7, 2e13, 2, 1.7),
    ],
    mistakes=told(
        _from_right(lambda hours, money, _: (3600 * hours, 3600 * money)),
        "Operations over operations a second are seconds: divide by 3600.",
        _from_right(lambda hours, money, _: (60 * hours, 60 * money)),
        "Those are minutes: an hour has 3600 seconds.",
        (
            _from_right(lambda hours, money, _: (60 * hours, money)),
            _from_right(lambda hours, money, _: (3600 * hours, money)),
        ),
        "The money is right, but the time is not in hours.",
        _from_right(lambda hours, money, given: (hours, money / given["cards"])),
        "The rate is for one card: several cost several times it.",
        _from_right(lambda hours, money, given: (hours * given["cards"], money * given["cards"])),
        "Several cards share the work: divide the time by their number.",
        _from_right(lambda hours, money, given: (hours * given["cards"], money)),
        "Your hours are card hours; the clock shows them divided by the cards.",
        _from_right(lambda hours, money, given: (hours / given["epochs"], money / given["epochs"])),
        "The epochs are missing: each row is seen so many times.",
        _from_right(lambda hours, money, given: (hours / given["length"], money / given["length"])),
        "You count a row as one token: it has length of them.",
        _from_right(lambda hours, money, given: (money, hours)),
        "The other way round: hours first, then money.",
        _from_right(lambda hours, money, given: (hours, money / given["rate"] ** 2)),
        "Money is hours times the rate, not divided by it.",
        _forward_only,
        "You count the frozen weights forwards only: the gradient passes through them, 2 more each.",
        lambda *arguments: _estimate(*arguments, checkpointing=False),
        "Checkpointing is on: the blocks are computed forwards once more.",
        _counted(lambda parts: [*parts[:3], 0]),
        "The attention's scores are missing: blocks x 2 x row length x outputs of q_proj.",
        _counted(lambda parts: [*parts[:3], 2 * parts[3]]),
        "The scores are twice too many: a token looks back only, at half of the row on average.",
        _counted(lambda parts: [parts[0], 0, *parts[2:]]),
        "The output head is missing; with a large vocabulary that is a lot.",
        _counted(lambda parts: [*parts[:2], 0, parts[3]]),
        "The adapters are missing: counting.lora_count(config, 16).",
    ),
    hints=[
        "Operations of one token first: operations_of(blocks, head, adapters, scores, True).",
        "scores = layers x 2 x length x counting.block_shapes(config)['q_proj'][1]; the tokens are rows x "
        "length x epochs.",
        "hours = tokens x operations / (cards x speed) / 3600; money = hours x cards x rate.",
    ],
    minutes=15,
    difficulty=2,
    solution=SOLUTION,
)
