"""Notebook 05's exercises on memory, each with the mistakes people make; the references: planning.napkin."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import replace

from labsupport.checking.exercise import Exercise, told
from labsupport.configs import model_configs
from labsupport.planning import napkin
from labsupport.setups.setup import Setup
from labsupport.sizes import counting

# ---------------------------------------------------------------- what a block keeps for a token


_block_keeps = napkin.kept_by_block


def _too_much(by, only=tuple(napkin.ADAPTERS)):
    """A wrong answer that is `by(config, rank, size)` bytes above the right one where the adapters are one of
    `only`; size: bytes of a number of the adapters."""

    def wrong(config, rank, adapters):
        size = 4 if adapters == "float32" else 2
        more = by(config, rank, size) if adapters in only else 0
        return _block_keeps(config, rank, adapters) + more

    return wrong


def _inputs(config, names=counting.ALL_LINEAR):
    return sum(counting.block_shapes(config)[name][0] for name in names)


def _outputs(config, *names):
    return sum(counting.block_shapes(config)[name][1] for name in names)


def _shared(config):
    return 2 * config["hidden_size"] + config["intermediate_size"]


COPIED, SHARED = ("float32", "autocast"), ("bfloat16",)  # whether each adapter casts its input

block_keeps = Exercise(
    name="memory_and_cost.block_keeps",
    reference=_block_keeps,
    cases=lambda: [
        (model_configs.find("llama-3.1-8b"), 16, "float32"),
        (model_configs.find("llama-3.1-8b"), 32, "bfloat16"),
        (model_configs.find("llama-2-7b"), 64, "autocast"),
        (model_configs.find("smollm2-135m"), 8, "float32"),
        (model_configs.checked(model_configs.OWN_HEAD_DIM), 16, "autocast"),
        (model_configs.checked(model_configs.OWN_HEAD_DIM), 4, "bfloat16"),
    ],
    mistakes=told(
        lambda config, rank, adapters: _block_keeps(config, rank, "float32"),
        "Float32 copies are the plain loop's: autocast takes 2 bytes, and bfloat16 adapters make no copies.",
        lambda config, rank, adapters: _block_keeps(config, rank, "autocast"),
        "You count seven copies of 2 bytes, whatever the adapters are.",
        lambda config, rank, adapters: _block_keeps(config, rank, "bfloat16"),
        "You count shared inputs everywhere: adapters in float32 or under autocast make a copy each.",
        _too_much(lambda config, rank, size: size * (_inputs(config) - _shared(config)), SHARED),
        "Adapters in bfloat16 cast nothing: q, k and v share one input, gate and up another.",
        _too_much(lambda config, rank, size: size * _inputs(config, ("o_proj",)), SHARED),
        "o_proj's input is the attention's output, which stands in the table already: no fourth tensor.",
        _too_much(lambda config, rank, size: size * (_shared(config) - _inputs(config)), COPIED),
        "q, k and v read the same numbers, and so do gate and up, but each adapter casts them anew.",
        _too_much(
            lambda config, rank, size: -size * _inputs(config, ("k_proj", "v_proj", "up_proj")), COPIED
        ),
        "In float32 and under autocast there are seven copies, though some layers read the same numbers.",
        _too_much(lambda config, rank, size: 4 * (config["hidden_size"] - _outputs(config, "q_proj"))),
        "Queries are as wide as q_proj's output: heads x head size, not always the hidden.",
        _too_much(lambda config, rank, size: (4 - size) * (_inputs(config) + 7 * rank), ("autocast",)),
        "Autocast makes 16 bits of the adapters' inputs and of what A gives: 2 bytes a number.",
        _too_much(lambda config, rank, size: -2 * (_inputs(config) + 7 * rank), ("float32",)),
        "In the plain loop the adapters are float32: their inputs and what A gives take 4 bytes a number.",
        _too_much(lambda config, rank, size: (4 - size) * 7 * rank),
        "What A gives has the adapters' size: 4 bytes in the plain loop alone.",
        _too_much(lambda config, rank, size: -size * 7 * rank),
        "Each adapter also keeps what A gives, Ax: rank numbers.",
        _too_much(lambda config, rank, size: -size * 6 * rank),
        "You count one output of A; there are seven adapters in a block.",
        _too_much(
            lambda config, rank, size: size * (_outputs(config, *counting.ALL_LINEAR) - _inputs(config)),
            COPIED,
        ),
        "An adapter keeps its module's input: block_shapes has (inputs, outputs) in this order.",
        _too_much(lambda config, rank, size: 4 * (_outputs(config, "q_proj") - _outputs(config, "k_proj"))),
        "Keys and values are as wide as k_proj's output, narrower than the queries.",
        (
            _too_much(lambda config, rank, size: -6 * config["intermediate_size"]),
            _too_much(lambda config, rank, size: -4 * config["intermediate_size"]),
            _too_much(lambda config, rank, size: -2 * config["intermediate_size"]),
        ),
        "The MLP keeps three tensors of its own: gate, activated gate, and up's output.",
        _too_much(lambda config, rank, size: -4 * config["hidden_size"]),
        "A block has two norms, and each keeps its input in float32: 8 bytes a hidden number.",
        _too_much(lambda config, rank, size: -4 * config["num_attention_heads"]),
        "The attention keeps one float32 a head: the log-sum of its softmax.",
        lambda config, rank, adapters: _block_keeps(config, rank, adapters) * config["num_hidden_layers"],
        "That is for the whole model; the question is one block.",
    ),
    hints=[
        "The last four rows are the same for all; only the adapters' two rows depend on the setting. "
        'size = 4 if adapters == "float32" else 2.',
        "shapes = counting.block_shapes(config) has (inputs, outputs) by module: the seven inputs are "
        "shapes[name][0], queries shapes['q_proj'][1], keys shapes['k_proj'][1].",
        "8h + size (inputs + 7r) + 2 (2q + 2k) + 4 heads + 6f, with h hidden, f intermediate; inputs: of all "
        "seven modules, or 2h + f for bfloat16.",
    ],
    minutes=20,
    difficulty=3,
)

# ---------------------------------------------------------------- the peak


_Given = namedtuple("_Given", "standing kept head block gradients scratch accumulates")


def _of(changed):
    """A wrong answer `changed(four moments, arguments)`; the moments are without what stands."""
    return lambda *values: changed(napkin.moments_of_step(*values[1:]), _Given(*values))


def _above(changed):
    """A wrong answer: `changed(four moments, arguments)` and what stands."""
    return _of(lambda found, given: given.standing + changed(found, given))


def _all_but(left_out):
    """A wrong answer that forgets one of the four moments."""
    return _above(lambda found, given: max(found[:left_out] + found[left_out + 1 :]))


def _only(number):
    return _above(lambda found, given: found[number])


def _again(**changes):
    """A wrong answer that computes with other arguments."""
    return lambda *values: napkin.peak_of_step(*_Given(*values)._replace(**changes))


peak_of_step = Exercise(
    name="memory_and_cost.peak_of_step",
    reference=lambda standing, kept, head, block, gradients, scratch, accumulates: napkin.peak_of_step(
        standing, kept, head, block, gradients, scratch, accumulates
    ),
    cases=[  # in MB, about as Llama-3.1-8B has them
        (16_600, 540, 3_680, 790, 168, 168, False),  # LoRA in a plain loop, one row of 2,048: the loss
        (5_960, 2_150, 270, 2_220, 84, 0, False),  # QLoRA with TRL, 4 x 2,048: the first block back
        (48_200, 540, 270, 2_250, 16_061, 0, False),  # full with TRL: the last block back
        (48_200, 134, 920, 570, 16_061, 16_061, False),  # full in a plain loop: the optimizer
        (48_200, 540, 270, 2_250, 16_061, 0, True),
        (17_800, 2_150, 14_700, 3_160, 671, 671, True),
        (100, 300, 200, 150, 700, 90, False),
    ],
    mistakes=told(
        _of(lambda found, given: sum(given) - given.accumulates),
        "That is the sum of all parts: they are not all there at the same moment.",
        _above(lambda found, given: sum(found)),
        "You add the moments; the peak is the largest of them.",
        _of(lambda found, given: max(found)),
        "What stands is missing: it is there at every moment.",
        _of(lambda found, given: max(given.standing, *found)),
        "What stands, stands during all of the moments: add it to the largest.",
        _of(lambda found, given: max(given.standing + found[0], *found[1:])),
        "What stands is there at all four moments, not at the loss alone.",
        _only(0),
        "That is the loss alone: three other moments compete with it.",
        _only(1),
        "That is the first block's way back alone: three other moments compete with it.",
        _only(3),
        "That is the optimizer's step alone: three other moments compete with it.",
        _all_but(0),
        "The loss is missing: there is all that is kept, and what the head needs.",
        _all_but(1),
        "The beginning of the backward pass is missing: all is kept still, and one block is computed again.",
        _all_but(2),
        "The end of the backward pass is missing: all gradients are there, and one block is computed again.",
        _all_but(3),
        "The optimizer's step is missing: all gradients are there, and its scratch beside them.",
        _above(lambda found, given: max(found[0], found[3])),
        "Both moments of the backward pass are missing: while a block goes back, it needs `block`.",
        _again(accumulates=False),
        "With accumulation the gradients of earlier micro-batches are there at the loss and on the first "
        "block's way back, too.",
        _again(accumulates=True),
        "Without accumulation there are no gradients yet at the loss.",
        _above(lambda found, given: max(found[0], given.kept + given.block, *found[2:])),
        "Earlier gradients do not go when the backward pass begins: they are there on the first block's way "
        "back as well.",
        _above(
            lambda found, given: max(*found[:2], max(found[2:]) + given.accumulates * given.gradients),
        ),
        "Accumulating adds into the gradients that are there; there is never a second set of them.",
        _above(lambda found, given: max(*found, found[2] + given.kept)),
        "When the last block goes back, what the others kept is gone: it was freed on the way.",
        _above(lambda found, given: max(*found, found[1] + given.head)),
        "What the head needs is gone before the first block goes back.",
        _above(lambda found, given: max(given[1:6])),
        "You take the largest part; at each moment several parts are there: add them first.",
        _above(lambda found, given: min(found)),
        "The peak is the largest of the moments.",
    ),
    hints=[
        "Write four sums, one for each moment, without what stands. Add the largest to what stands.",
        "earlier = gradients if accumulates else 0 belongs to the loss and to the first block's way back.",
        "standing + max(kept + head + earlier, kept + block + earlier, block + gradients, "
        "gradients + scratch).",
    ],
    minutes=15,
    difficulty=2,
)

# ---------------------------------------------------------------- LoRA or QLoRA for a card


def _by_another(peak):
    """A wrong answer that chooses by another peak, a function of the run."""
    return lambda *given: napkin.method_for_card(*given, peak)


def _changed(change):
    """A wrong answer `change(method, rows, length)`, which starts from the right one."""
    return lambda *given: change(*napkin.method_for_card(*given), given[3])


def _most_rows(*given):
    """The method with which more rows fit."""
    found = [napkin.method_for_card(*given, methods=(name,)) for name in ("lora", "qlora")]
    return max(found, key=lambda answer: answer[1])


def _card_cases():
    llama2, llama3 = model_configs.find("llama-2-7b"), model_configs.find("llama-3.1-8b")
    exact = napkin.on_paper(Setup(llama3, "lora", 16, batch=3, length=1000, padded=False, trainer="sft"))
    return [
        (llama3, "sft", 16, 1000, exact),  # three rows fit exactly
        (llama3, "sft", 16, 2048, 16.5e9),
        (llama3, "plain", 16, 1024, 18e9),
        (llama2, "plain", 256, 256, 24e9),
        (llama2, "sft", 64, 512, 14.5e9),
        (llama3, "plain", 32, 4096, 12e9),  # neither
        (model_configs.find("smollm2-135m"), "sft", 8, 300, 1e9),
        (model_configs.find("smollm2-135m"), "plain", 8, 4096, 6.5e9),  # as many rows with both
        (model_configs.find("llama-3-70b"), "sft", 16, 512, 42e9),
    ]


method_for_card = Exercise(
    name="memory_and_cost.method_for_card",
    reference=lambda config, trainer, rank, length, usable: napkin.method_for_card(
        config, trainer, rank, length, usable
    ),
    cases=_card_cases,
    mistakes=told(
        lambda *given: napkin.method_for_card(*given, methods=("qlora", "lora")),
        "You try QLoRA first: plain LoRA is the better choice wherever one row fits with it.",
        _most_rows,
        "You take the method with more rows; plain LoRA comes first if at least one row fits.",
        lambda *given: napkin.method_for_card(*given, methods=("lora",)),
        "QLoRA is never tried: it comes second, where not one row fits with LoRA.",
        lambda config, trainer, *rest: napkin.method_for_card(config, "plain", *rest),
        "The trainer is an argument, and you plan a plain loop for all: TRL's makes no full logits.",
        lambda config, trainer, *rest: napkin.method_for_card(config, "sft", *rest),
        "The trainer is an argument, and you plan TRL's for all: a plain loop makes full logits.",
        _changed(lambda method, rows, length: (method, min(rows, 1))),
        "The method is right; the rows are the most that fit, not one.",
        _changed(lambda method, rows, length: (method, rows + 1)),
        "One row too many: the number that you return does not fit any more.",
        _changed(lambda method, rows, length: (method, max(0, rows - 1))),
        "One row too few: the next one would still fit.",
        _changed(lambda method, rows, length: (method, rows * length)),
        "Those are tokens: divide by the tokens of a row.",
        _by_another(lambda run: napkin.on_paper(run) * (1 + 1e-12)),
        "A peak of exactly the usable bytes fits: compare with <=.",
        _by_another(lambda run: napkin.on_paper(replace(run, rank=16))),
        "The rank is an argument: adapters, their moments and their gradients grow with it.",
    ),
    hints=[
        "on_paper(run) has the bytes at the peak of a run; one of so many rows is Setup(config, method, "
        "rank, batch=rows, length=length, padded=False, trainer=trainer).",
        'For "lora", then for "qlora": count rows up as long as one more still fits.',
        "rows = 0; while on_paper(the run with rows + 1) <= usable: rows += 1.",
    ],
    minutes=20,
    difficulty=2,
)
