"""Operations of a step against torch's own counter, and the rules of thumb that follow from them."""

import dataclasses

import pytest

from labsupport.configs import model_configs
from labsupport.cost import operations
from labsupport.setups.setup import Setup


def setup(**options) -> Setup:
    return Setup(**({"config": model_configs.find("llama-3.1-8b"), "checkpointing": False} | options))


@pytest.mark.parametrize("method", ["lora", "full"])
def test_operations_are_those_that_torch_counts(method):
    from torch.utils.flop_counter import FlopCounterMode

    from labsupport.memory import stand_ins, workload

    config = dict(model_configs.find("smollm2-135m"), num_hidden_layers=8)
    options = {"batch": 1, "length": 64, "padded": False, "attention": "eager", "trainer": "plain"}
    asked = setup(config=config, method=method, **options)
    with stand_ins.in_use():
        model = workload.build_model(asked, 8)
        batch = workload.batch_for(asked)
        with FlopCounterMode(display=False) as counter:
            model(**batch, use_cache=False).loss.backward()
    # Eager attention also computes the half of the scores that it masks, which the estimate leaves out.
    masked = 8 * 3 * 2 * 64 * 576
    # Full: all of it. LoRA: the first block's inputs need no gradient, a few percent of eight blocks.
    tolerance = 1e-9 if method == "full" else 0.04
    counted = counter.get_total_flops() / 64
    assert operations.flops_per_token(asked) + masked == pytest.approx(counted, rel=tolerance)


def test_lora_is_about_two_thirds_of_full_fine_tuning():
    share = operations.flops_per_token(setup()) / operations.flops_per_token(setup(method="full"))
    assert 0.65 < share < 0.7


def test_checkpointing_costs_one_more_forward_pass():
    more = operations.flops_per_token(setup(checkpointing=True)) / operations.flops_per_token(setup())
    assert 1.4 < more < 1.5
    full = operations.flops_per_token(setup(method="full", checkpointing=True))
    assert 1.25 < full / operations.flops_per_token(setup(method="full")) < 4 / 3


def test_trls_head_computes_supervised_tokens_only():
    half = setup(supervised=0.5)
    head = 4 * operations.weights_in_products(half.config)[1]
    assert operations.of_products(setup()) - operations.of_products(half) == head / 2
    plain = dataclasses.replace(half, trainer="plain")
    assert operations.of_products(plain) == operations.of_products(setup(trainer="plain"))


def test_products_and_scores_are_all_of_it():
    run = setup(length=4096)
    assert operations.of_products(run) + operations.of_scores(run) == operations.flops_per_token(run)
    assert operations.of_scores(run) == 3 * 32 * 2 * 4096 * 4096


def test_a_token_meets_the_experts_that_it_is_sent_to_and_a_step_reads_all():
    mixtral = {
        "model_type": "mixtral",
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "vocab_size": 100,
    }
    config = model_configs.checked(mixtral)
    attention, router, expert = 4 * 64 * 64, 64 * 8, 3 * 64 * 96
    assert operations.weights_in_products(config) == (2 * (attention + router + 2 * expert), 6400)
    assert operations.stored_weights(config) == 2 * (attention + router + 8 * expert)
