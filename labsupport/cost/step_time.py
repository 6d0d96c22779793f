"""Seconds of a training step: what a card must compute, read, unpack, launch and send, one after the other.

A roofline with few parameters. Each is a pair (fast, slow): what the best software reaches, and what a plain
stack on a middling host does. Nothing here was measured by this course; data/published_runs/times.json says
which published runs set the parameters, and which were kept out to try them on (see evidence.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from labsupport.core.files import LabError
from labsupport.cost import operations
from labsupport.planning import closed_form
from labsupport.setups.setup import Setup
from labsupport.sizes import counting, gpus

Range = tuple[float, float]  # (fast, slow)

# No range of a step is wider than its widest parameter: slow is at most three times fast.
# Share of what large products sustain (gpus.py) that a step's products reach: all of it at best; the slow end
# leaves room for a plainer stack than those of fms-acceleration and torchtune, whose rows ask for 0.6 to 1.
PRODUCTS = (1.0, 0.4)
# The same for the attention's scores: FlashAttention-2 (Dao 2023, section 4.1) has up to 73 % of an A100's
# peak forwards and 63 % backwards, PyTorch's memory-efficient kernel about a third of that.
ATTENTION = (0.75, 0.25)
BANDWIDTH = (0.95, 0.6)  # share of the promised bandwidth for long readings: an assumption
# How often what a block keeps of a token goes through memory in a pass: about once where a compiler fuses
# what lies between the products (torchtune's rows), several times where each operation is a kernel.
TRAFFIC = (1.2, 3.6)
# Share of the bandwidth at which 4-bit weights become 16-bit ones. Slow: bitsandbytes 0.41 in LitGPT's rows.
UNPACKING = (0.75, 0.25)
# Seconds of the host for a kernel, Python and autograd included: LitGPT's and PEFT's rows of few tokens.
LAUNCH = (8e-6, 24e-6)
# Kernels that a forward pass launches, counted in transformers' Llama block, in PEFT's LoRA layer and in
# bitsandbytes' MatMul4Bit; "head" is for the embedding, the head and the loss.
LAUNCHES = {"block": 40, "adapter": 8, "unpacking": 4, "head": 30}
LINK = (0.8, 0.3)  # share of a link's promised rate: an assumption
# How often AdamW passes what it needs through memory: once by the fused kernel; one pass an operation, and
# the clipping of gradients, by the default.
ADAMW = (1, 3)
DORA = (12, 36)  # bytes a target's weight and forward pass for the norm of W + BA, in one pass or one by one


@dataclass(frozen=True)
class StepTime:
    """tokens: computed in an optimizer step, by all cards; terms: name -> (fast, slow) seconds of it."""

    tokens: int
    terms: dict[str, Range]

    @property
    def seconds(self) -> Range:
        """(fast, slow) seconds of the step: the terms added up, as nothing overlaps."""
        return tuple(map(sum, zip(*self.terms.values(), strict=True)))

    @property
    def tokens_a_second(self) -> Range:
        """(least, most) tokens a second, of all cards together."""
        return tuple(self.tokens / seconds for seconds in reversed(self.seconds))

    @property
    def binds(self) -> str:
        """The term that takes most of the time, in the middle of its range."""
        return max(self.terms, key=lambda name: sum(self.terms[name]))


def step_time(setup: Setup, card: gpus.Card, cards: int = 1, sharded: bool = False) -> StepTime:
    """The time of one optimizer step of `accumulation` micro-batches on each of so many cards.

    sharded: every card holds a part of the model and fetches the rest for each pass (FSDP, ZeRO-3); else
    each holds all of it. LabError for a card whose speed is not known.
    """
    if card.sustained_tflops is None or card.bandwidth_gb_s is None:
        raise LabError(
            f"The speed of {card.name} is not known: name one of {', '.join(gpus.of_known_speed())}."
        )
    passing = {
        "products": products(setup, card),
        "attention": attention(setup, card),
        "activations": activations(setup, card),
        "unpacking": unpacking(setup, card),
        "launches": launches(setup),
    }
    terms = {name: times(setup.accumulation, term) for name, term in passing.items()}
    terms["optimizer"] = optimizer(setup, card, cards if sharded else 1)
    terms["sending"] = sending(setup, card, cards, sharded)
    return StepTime(setup.batch * setup.length * setup.accumulation * cards, terms)


def forward_time(setup: Setup, card: gpus.Card) -> Range:
    """Seconds of a forward pass alone over a micro-batch, as for reading a prompt."""
    step = step_time(setup, card)
    blocks, head = operations.weights_in_products(setup.config)
    shares = dict.fromkeys(step.terms, 1 / passes(setup) / setup.accumulation)
    shares["products"] = (
        operations.PRODUCT * (blocks + head) / operations.of_products(setup) / setup.accumulation
    )
    shares["unpacking"] = 1 / readings(setup) / setup.accumulation
    shares["optimizer"] = 0.0
    return plus(*(times(shares[name], term) for name, term in step.terms.items()))


def times(factor: float, term: Range) -> Range:
    """A range so many times as long."""
    return factor * term[0], factor * term[1]


def plus(*terms: Range) -> Range:
    """Ranges one after the other."""
    return tuple(map(sum, zip(*terms, strict=True)))


def over(count: float, rate: float, share: Range) -> Range:
    """Seconds for so many operations or bytes at a share of a rate a second."""
    return tuple(count / (rate * reached) for reached in share)


def bandwidth(card: gpus.Card) -> float:
    """Bytes a second between the card's memory and its processors, as promised."""
    return card.bandwidth_gb_s * 1e9


def sustained(setup: Setup, card: gpus.Card) -> float:
    """Operations a second that large products reach; of 32-bit numbers half as many (TF32)."""
    return card.sustained_tflops * 1e12 * 2 / setup.number_bytes


def passes(setup: Setup) -> int:
    """How often the blocks are gone through, a forward pass being one: backwards counts as two, since most
    operations have two gradients; checkpointing adds one."""
    return 4 if setup.checkpointing else 3


def readings(setup: Setup) -> int:
    """How often a micro-batch reads the weights: forwards, backwards, and again with checkpointing."""
    return 3 if setup.checkpointing else 2


def products(setup: Setup, card: gpus.Card) -> Range:
    """Seconds of all products with weights in a micro-batch, the larger of two: operations over PRODUCTS of
    what the card sustains, or bytes of 16-bit weights over BANDWIDTH of what it reads."""
    count = setup.batch * setup.length * operations.of_products(setup)
    blocks, head = operations.stored_weights(setup.config), operations.weights_in_products(setup.config)[1]
    weights = setup.number_bytes * (readings(setup) * blocks + 2 * head)
    computing = over(count, sustained(setup, card), PRODUCTS)
    return tuple(map(max, computing, over(weights, bandwidth(card), BANDWIDTH)))


def attention(setup: Setup, card: gpus.Card) -> Range:
    """Seconds of a micro-batch's attention scores: operations over ATTENTION of what the card sustains.

    A mask keeps the fused kernel from leaving out the half that looks ahead.
    """
    count = setup.batch * setup.length * operations.of_scores(setup) * (2 if setup.padded else 1)
    return over(count, sustained(setup, card), ATTENTION)


def activations(setup: Setup, card: gpus.Card) -> Range:
    """Seconds for what lies between the products: norms, rotations, casts, adapters' inputs, logits.

    What a block keeps of a token (closed_form.activation_bytes) goes TRAFFIC times through memory in each
    pass, and so do the logits, their copies and gradients.
    """
    kept = closed_form.activation_bytes(setup)
    if setup.attention == "eager":  # scores and their softmax, written out
        kept += 2 * setup.number_bytes * setup.config["num_attention_heads"] * setup.length
    words = setup.config["vocab_size"] * operations.supervised_share(setup)
    count = passes(setup) * setup.config["num_hidden_layers"] * kept
    count += words * closed_form.LOGITS_BYTES[setup.number_bytes]
    one = setup.batch * setup.length * count / bandwidth(card)
    return TRAFFIC[0] * one, TRAFFIC[1] * one


def unpacking(setup: Setup, card: gpus.Card) -> Range:
    """Seconds in which a micro-batch makes 16-bit weights of 4-bit ones, for every product anew: half a byte
    read and two written, at UNPACKING of the bandwidth. And those of DoRA's norms, DORA bytes a weight."""
    found = (0.0, 0.0)
    if setup.four_bit:
        one = closed_form.NF4_BYTES[setup.doubly_quantized] + setup.number_bytes
        count = readings(setup) * operations.linear_weights(setup.config) * one
        found = over(count, bandwidth(card), UNPACKING)
    if setup.method.endswith("dora"):
        weights = setup.config["num_hidden_layers"] * sum(a * b for a, b in closed_form.target_shapes(setup))
        one = (readings(setup) - 1) * weights / bandwidth(card)
        found = plus(found, (DORA[0] * one, DORA[1] * one))
    return found


def kernels(setup: Setup) -> int:
    """How many kernels a micro-batch launches, LAUNCHES in each pass; a DoRA layer twice a LoRA layer's."""
    adapter = LAUNCHES["adapter"] * (2 if setup.method.endswith("dora") else 1)
    block = passes(setup) * (LAUNCHES["block"] + adapter * len(closed_form.target_shapes(setup)))
    if setup.four_bit:
        block += readings(setup) * LAUNCHES["unpacking"] * len(counting.block_shapes(setup.config))
    return setup.config["num_hidden_layers"] * block + 3 * LAUNCHES["head"]


def launches(setup: Setup) -> Range:
    """Seconds in which the host starts a micro-batch's kernels, LAUNCH each, whatever they then do."""
    return times(kernels(setup), LAUNCH)


def optimizer(setup: Setup, card: gpus.Card, parts: int = 1) -> Range:
    """Seconds of AdamW's step: ADAMW times what it needs over the bandwidth. That is, for each parameter,
    weight, gradient and two moments read, all but the gradient written; moments of one byte in its 8-bit
    version. parts: among how many cards the parameters are split."""
    size = closed_form.trainable_bytes(setup)
    needed = 3 * size + 4 * (1 if "8bit" in setup.optimizer else size)
    one = closed_form.trainable_parameters(setup) * needed / parts / bandwidth(card)
    return ADAMW[0] * one, ADAMW[1] * one


def sending(setup: Setup, card: gpus.Card, cards: int, sharded: bool) -> Range:
    """Seconds in which cards exchange what they must, over LINK of what one sends another.

    Every card holds all: the gradients of what is trained, twice (n - 1) / n of them (a ring's all-reduce).
    Sharded: the weights before the forward and the backward pass of each micro-batch, (n - 1) / n of them;
    the gradients once.
    """
    if cards < 2:
        return 0.0, 0.0
    count = 2 * closed_form.trainable_parameters(setup) * closed_form.trainable_bytes(setup)
    if sharded:
        count = count / 2 + 2 * setup.accumulation * closed_form.weight_bytes(setup)
    return over(count * (cards - 1) / cards, card.link_gb_s * 1e9, LINK)
