"""Notebook 05's exercises on cost, each with the mistakes people make."""

from __future__ import annotations

from labsupport.checking.exercise import Exercise, told
from labsupport.configs import model_configs
from labsupport.cost.operations import training_flops, weights_in_products
from labsupport.sizes import counting

# ---------------------------------------------------------------- operations a token


def _operations(blocks, head, adapters, scores, checkpointing):
    return training_flops(blocks, head, adapters, scores, checkpointing=checkpointing)


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
        queries = counting.block_shapes(config)["q_proj"][1]
        scores = config["num_hidden_layers"] * 2 * length * queries
        blocks, head = weights_in_products(config)
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
)

# ---------------------------------------------------------------- hours and money on a roofline

PARTS = ("computing", "reading", "launching")


def _seconds(tokens, a_token, weights, kernels, card):
    """Seconds of a step that each part takes by itself."""
    return (
        tokens * a_token / card["speed"],
        weights / card["bandwidth"],
        kernels * card["launch"],
    )


def _priced(steps, tokens, a_token, weights, kernels, card, rate, a_step=None, binds=None):
    parts = _seconds(tokens, a_token, weights, kernels, card)
    computing, reading, launching = parts
    seconds = max(computing, reading) + launching if a_step is None else a_step(*parts)
    hours = steps * seconds / 3600
    chosen = max if binds is None else binds
    return hours, hours * rate, PARTS[parts.index(chosen(parts))]


def _a_step(seconds):
    """A wrong answer whose step takes `seconds(computing, reading, launching)`."""
    return lambda *given: _priced(*given, a_step=seconds)


def _named(binds):
    """A wrong answer that says of another part that it binds."""
    return lambda *given: _priced(*given, binds=binds)


def _from_right(changed):
    """A wrong answer `changed(hours, money, binds, rate)`, which starts from the right one."""
    return lambda *given: changed(*_priced(*given), given[-1])


def _with(**changes):
    """A wrong answer that computes with other arguments: name -> function of all of them."""
    names = ("steps", "tokens", "a_token", "weights", "kernels", "card", "rate")

    def wrong(*given):
        named = dict(zip(names, given, strict=True))
        return _priced(**named | {name: change(named) for name, change in changes.items()})

    return wrong


def _priced_cases():
    l4 = {"speed": 9e13, "bandwidth": 3e11, "launch": 1.2e-5}
    a100 = {"speed": 2.6e14, "bandwidth": 2e12, "launch": 2e-5}
    slow = {"speed": 4e13, "bandwidth": 6e11, "launch": 9e-6}
    return [
        (625, 8192, 6.2e10, 48e9, 17_000, l4, 0.8),  # computing
        (40_000, 110, 4.7e10, 42e9, 9_000, a100, 1.6),  # launching
        (2500, 96, 5.9e10, 49e9, 11_000, l4, 0.75),  # reading
        (1200, 2048, 6.1e10, 14e9, 13_000, slow, 0.5),
        (900, 300, 6.1e10, 1.8e10, 25_000, slow, 1.1),
    ]


priced = Exercise(
    name="memory_and_cost.priced",
    reference=lambda steps, tokens, a_token, weights, kernels, card, rate: _priced(
        steps, tokens, a_token, weights, kernels, card, rate
    ),
    cases=_priced_cases,
    mistakes=told(
        _a_step(lambda computing, reading, launching: computing + reading + launching),
        "A card reads the weights while it computes: of these two the longer one counts, not both.",
        _a_step(lambda computing, reading, launching: max(computing, reading, launching)),
        "Starting the kernels comes on top here: add it to the longer of the other two.",
        _a_step(lambda computing, reading, launching: computing + max(reading, launching)),
        "Computing and reading go on at the same time; starting the kernels is what comes on top.",
        _a_step(lambda computing, reading, launching: max(computing, reading)),
        "Starting the kernels is missing: with few tokens it is most of the step.",
        _a_step(lambda computing, reading, launching: computing + launching),
        "Reading the weights is missing: with few tokens a step it takes longer than computing.",
        _a_step(lambda computing, reading, launching: computing),
        "That is computing alone: reading the weights may take longer, and starting kernels comes on top.",
        _a_step(lambda computing, reading, launching: min(computing, reading) + launching),
        "The longer of computing and reading counts: the shorter one goes on meanwhile.",
        _with(weights=lambda given: given["weights"] * given["tokens"]),
        "The weights are read for all tokens of a step at once, not for each.",
        _with(kernels=lambda given: given["kernels"] * given["tokens"]),
        "The kernels work on all tokens of a step at once: their number does not grow with them.",
        _with(tokens=lambda given: 1),
        "The operations are those of one token: a step has `tokens` of them.",
        _with(steps=lambda given: 1),
        "That is one step: the run has `steps` of them.",
        _from_right(lambda hours, money, binds, rate: (60 * hours, money, binds)),
        "The money is right, but the time is in minutes: an hour has 3600 seconds.",
        _from_right(lambda hours, money, binds, rate: (3600 * hours, money, binds)),
        "The money is right, but the time is in seconds.",
        _from_right(lambda hours, money, binds, rate: (60 * hours, 60 * money, binds)),
        "You divide by 60: an hour has 3600 seconds.",
        _from_right(lambda hours, money, binds, rate: (3600 * hours, 3600 * money, binds)),
        "Those are seconds: divide by 3600 before you multiply with the rate.",
        _from_right(lambda hours, money, binds, rate: (hours, hours / rate, binds)),
        "Money is hours times the rate, not divided by it.",
        _from_right(lambda hours, money, binds, rate: (money, hours, binds)),
        "The other way round: hours first, then money.",
        _from_right(lambda hours, money, binds, rate: (round(hours, 2), round(money, 2), binds)),
        "It is rounded: return hours and money as they are.",
        _named(lambda parts: max(parts[:2])),
        "What binds is the longest of all three; starting the kernels can be it, too.",
        _named(min),
        "You name the shortest part; what binds is the longest.",
    ),
    hints=[
        'Three times of one step: tokens * a_token / card["speed"], weights / card["bandwidth"], kernels * '
        'card["launch"].',
        "seconds = max(computing, reading) + launching; hours = steps * seconds / 3600.",
        'parts = {"computing": …, "reading": …, "launching": …}; binds = max(parts, key=parts.get).',
    ],
    minutes=20,
    difficulty=2,
)
