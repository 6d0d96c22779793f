"""How many operations a training step takes, token by token and weight by weight. No torch."""

from __future__ import annotations

from labsupport.configs import architectures, model_configs
from labsupport.planning import closed_form
from labsupport.setups.setup import Setup
from labsupport.sizes import counting

PRODUCT = 2  # operations of a token with one weight: a multiplication and an addition


def training_flops(
    blocks: float,
    head: float = 0,
    adapters: float = 0,
    scores: float = 0,
    full: bool = False,
    checkpointing: bool = True,
) -> float:
    """Operations of one training step for one token that is multiplied with so many weights.

    blocks, head: weights, trained if `full`, else frozen; adapters: trained ones beside the blocks'; scores:
    operations of the attention's scores forwards, a product of two computed things. PRODUCT a weight
    forwards, as much backwards for the inputs' gradients and again where the weight itself is trained;
    forwards once more with checkpointing, without the head.
    """
    forward = PRODUCT * (blocks + adapters) + scores
    backward = 2 * forward - (0 if full else PRODUCT * blocks)
    head_products = PRODUCT * head * (3 if full else 2)
    return forward * (2 if checkpointing else 1) + backward + head_products


def weights_in_products(config: dict) -> tuple[int, int]:
    """(block weights, output head's weights) that a token is multiplied with; embeddings are looked up.

    Of a model with experts, those that a token is sent to.
    """
    blocks = linear_weights(config) + config["num_hidden_layers"] * _expert_weights(config, active=True)
    return blocks, config["vocab_size"] * config["hidden_size"]


def stored_weights(config: dict) -> int:
    """The blocks' weights that a step reads: all experts, since among many tokens some go to each."""
    return linear_weights(config) + config["num_hidden_layers"] * _expert_weights(config, active=False)


def linear_weights(config: dict) -> int:
    """The weights of the blocks' linear layers, those that 4 bits are for."""
    return config["num_hidden_layers"] * sum(a * b for a, b in counting.block_shapes(config).values())


def _expert_weights(config: dict, active: bool) -> int:
    experts = architectures.expert_parameters(model_configs.checked(config))
    chosen = config.get("num_experts_per_tok", 1)
    return sum((min(count, chosen) if active else count) * a * b for count, a, b in experts.values())


def supervised_share(setup: Setup) -> float:
    """The share of a row's tokens that pass the head: all, but for TRL's fused one."""
    return setup.supervised if setup.trainer == "sft" else 1.0


def of_products(setup: Setup) -> float:
    """Operations of one training step for one token with weights, adapters' and head's among them."""
    blocks, head = weights_in_products(setup.config)
    adapters = 0 if setup.method == "full" else closed_form.trainable_parameters(setup)
    head *= supervised_share(setup)
    return training_flops(blocks, head, adapters, 0, setup.method == "full", setup.checkpointing)


def of_scores(setup: Setup) -> float:
    """Operations of one training step for one token with the other tokens of its row.

    Forwards 2 x 2 x row length x query width a block, halved because a token looks back only; backwards
    twice that, and forwards once more with checkpointing.
    """
    config = model_configs.checked(setup.config)
    query = config["num_attention_heads"] * config["head_dim"]
    forward = config["num_hidden_layers"] * 2 * setup.length * query
    return training_flops(0, scores=forward, checkpointing=setup.checkpointing)


def flops_per_token(setup: Setup) -> float:
    """Operations of one training step of this run for one token."""
    return of_products(setup) + of_scores(setup)
