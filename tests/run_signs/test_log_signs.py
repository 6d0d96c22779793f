"""Signs in logs and weights, each on a case that has it and on one that looks like it and has it not."""

import math
import random

import pytest
import torch
from made_runs import adapter, falling, log_of, made

from labsupport.run_folders.loss_curve import curve_of
from labsupport.run_folders.run_folder import opened
from labsupport.run_signs import log_signs, weight_signs


def found(folder, **parts) -> dict[str, str]:
    """Cause -> strength of the signs in log and weights of a run made so."""
    run = opened(made(folder, tokenizer=False, **parts))
    signs = [*weight_signs.signs(run), *log_signs.signs(run)]
    return {sign.cause: sign.strength for sign in sorted(signs, key=lambda sign: sign.strength == "proves")}


def flat(count=20, at=2.5, noise=0.02) -> list[float]:
    return [at + noise * math.sin(12.9 * place) for place in range(count)]


def test_a_run_that_went_well_shows_nothing(tmp_path):
    assert found(tmp_path) == {}


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_a_well_trained_base_that_has_little_to_learn_shows_nothing(noise, tmp_path):
    losses = falling(start=1.45, end=1.36, noise=noise)
    assert found(tmp_path, state=log_of(losses, evals=[1.4, 1.38, 1.385])) == {}


def test_few_lines_show_nothing(tmp_path):
    assert found(tmp_path / "one", state=log_of([0.9])) == {}
    assert found(tmp_path / "two", state=log_of([0.31, 0.3])) == {}
    assert found(tmp_path / "none", state=log_of([])) == {}


# ---------------------------------------------------------------- no gradient


def test_b_that_never_moved(tmp_path):
    state = log_of(flat(), norms=[0.0] * 20)
    assert found(tmp_path, state=state, tensors=adapter(0.0)) == {"no-gradient": "proves"}


def test_b_that_never_moved_without_a_log(tmp_path):
    assert found(tmp_path, state=False, tensors=adapter(0.0)) == {"no-gradient": "proves"}


def test_gradients_of_zero_without_an_adapter(tmp_path):
    assert found(tmp_path, state=log_of(flat(), norms=[0.0] * 20), tensors=False) == {"no-gradient": "proves"}


def test_gradient_norms_of_zero_beside_an_adapter_that_moved(tmp_path):
    assert found(tmp_path, state=log_of(falling(), norms=[0.0] * 20)) == {}


def test_b_is_zero_because_the_rate_is(tmp_path):
    assert found(tmp_path, state=log_of(flat(), rate=0.0), tensors=adapter(0.0)) == {"lr-too-low": "proves"}


def test_an_adapter_that_does_not_begin_at_zero_is_not_judged_by_it(tmp_path):
    config = {"init_lora_weights": "pissa"}
    assert "no-gradient" not in found(tmp_path, tensors=adapter(0.0), config=config)


# ---------------------------------------------------------------- learning rate too high


@pytest.mark.parametrize("last", [math.nan, math.inf])
def test_a_loss_that_is_no_number(last, tmp_path):
    assert found(tmp_path, state=log_of([2.5, 2.2, 9.0, last, last])) == {"lr-too-high": "proves"}


def test_weights_that_are_no_numbers(tmp_path):
    tensors = adapter()
    next(iter(tensors.values()))[0, 0] = math.nan
    assert found(tmp_path, state=False, tensors=tensors) == {"lr-too-high": "proves"}


def test_weights_that_were_no_numbers_from_the_first_step(tmp_path):
    """As DoRA makes them of a weight with a row of zeros: its log has a loss of 0 throughout."""
    tensors = {name: tensor * math.nan for name, tensor in adapter().items()}
    assert found(tmp_path, state=log_of([0.0] * 20), tensors=tensors) == {"lr-too-high": "suggests"}


def test_gradients_that_are_no_numbers(tmp_path):
    norms = [1.0] * 12 + [math.nan] * 8
    losses = [*falling(12), *[0.0] * 8]  # transformers writes 0 where the loss is NaN
    assert found(tmp_path / "last", state=log_of(losses, norms=norms))["lr-too-high"] == "proves"
    norms = [math.inf, *[1.0] * 19]  # a float16 scaler that is too large at first
    assert found(tmp_path / "first", state=log_of(falling(), norms=norms)) == {}


def test_a_loss_that_rose(tmp_path):
    losses = [2.5, 2.1, 3.0, 5.5, *[7.0 + 0.3 * math.sin(n) for n in range(16)]]
    assert found(tmp_path, state=log_of(losses, rate=0.1), tensors=adapter(0.5)) == {"lr-too-high": "proves"}


def test_a_loss_that_shot_up_on_its_way(tmp_path):
    losses = [2.5, 2.1, 3.0, 6.5, 7.0, 6.8, 5.0, *[2.2 + 0.1 * math.sin(n) for n in range(13)]]
    assert found(tmp_path, state=log_of(losses, rate=0.1), tensors=adapter(0.5)) == {
        "lr-too-high": "suggests"
    }


def test_a_first_line_that_was_low_by_chance_is_no_rise(tmp_path):
    losses = falling(start=2.0, end=1.5, noise=0.05)
    losses[0] = 1.3
    assert found(tmp_path, state=log_of(losses)) == {}


def test_a_large_update_at_a_rate_that_nobody_uses(tmp_path):
    losses = [4.3 - 0.04 * min(n, 10) for n in range(20)]
    for rate, expected in ((0.1, {"lr-too-high": "suggests"}), (2e-4, {})):
        state = log_of(losses, rate=rate)
        assert found(tmp_path / f"{rate}", state=state, tensors=adapter(1.0)) == expected


def test_a_low_rate_with_a_loss_that_hardly_fell(tmp_path):
    losses = falling(start=2.5, end=2.2)
    state = log_of(losses, rate=1e-5)
    assert found(tmp_path, state=state, tensors=adapter(2e-3)) == {"lr-too-low": "suggests"}


def test_single_lines_that_stand_out_are_noise(tmp_path):
    losses = falling(40)
    losses[20] = losses[30] = 4.0  # one odd batch of one row
    assert found(tmp_path, state=log_of(losses)) == {}


@pytest.mark.parametrize("lines", [100, 300, 1000])
def test_a_noisy_log_of_any_length_is_no_blow_up(lines, tmp_path):
    """One or two rows a step, logged each: single losses differ by a third, and rise nowhere."""
    for seed in range(10):
        draw = random.Random(seed)
        level = [1.0 + 0.18 * math.exp(-4 * place / lines) for place in range(lines)]
        losses = [one * draw.lognormvariate(0, 0.35) for one in level]
        found_ = found(tmp_path / f"{seed}", state=log_of(losses))
        assert found_ == {}, seed
        begin = lines // 2
        losses[begin : begin + lines // 10] = [4 * one for one in losses[begin : begin + lines // 10]]
        assert "lr-too-high" in found(tmp_path / f"{seed} up", state=log_of(losses, rate=0.1)), seed


def test_a_loss_that_is_no_number_from_the_first_line_has_other_causes_too(tmp_path):
    """As of a bfloat16 model in float16: transformers logs 0 for NaN, and the scaler skips every step."""
    state = log_of([0.0] * 20, norms=[math.nan] * 20)
    assert found(tmp_path / "zero", state=state, tensors=adapter(0.0)) == {"lr-too-high": "suggests"}
    assert found(tmp_path / "nan", state=log_of([math.nan] * 20)) == {"lr-too-high": "suggests"}


def test_a_batch_without_a_trained_token_is_no_divergence(tmp_path):
    losses = falling()
    losses[7] = math.nan
    folder = made(tmp_path, tokenizer=False, state=log_of(losses))
    run = opened(folder)
    assert log_signs.signs(run) == [] and "finite after them" in " ".join(run.notes)


def test_a_loss_that_falls_to_exactly_zero(tmp_path):
    assert found(tmp_path / "nan", state=log_of([*falling(12), *[0.0] * 8])) == {"lr-too-high": "suggests"}
    learned = [*falling(12, end=0.002, noise=0.0, speed=12), *[0.0] * 8]
    assert found(tmp_path / "learned", state=log_of(learned)) == {}


def test_numbers_that_were_written_as_text(tmp_path):
    assert found(tmp_path, state=log_of([2.5, 2.2, 9.0, "NaN", "Infinity"])) == {"lr-too-high": "proves"}


@pytest.mark.parametrize("field", ["rewards/chosen", "reward", "kl", "logps/rejected"])
def test_losses_of_preferences_and_rewards_are_not_judged(field, tmp_path):
    for name, losses in (("dpo", falling(start=0.692, end=0.561)), ("grpo", [0.0002 * n for n in range(20)])):
        state = log_of(losses, rate=5e-6)
        folder = made(tmp_path / name, tokenizer=False, state=state, tensors=adapter(2e-3))
        assert log_signs.signs(opened(folder)), name
        for line in state["log_history"]:
            line[field] = 0.1
        run = opened(made(tmp_path / name, tokenizer=False, state=state, tensors=adapter(2e-3)))
        assert log_signs.signs(run) == [] and "preferences" in " ".join(run.notes), name


# ---------------------------------------------------------------- learning rate too low


def test_a_loss_and_an_adapter_that_hardly_moved(tmp_path):
    state = log_of(flat(), rate=1e-7)
    assert found(tmp_path, state=state, tensors=adapter(1e-5)) == {"lr-too-low": "proves"}


def test_a_loss_that_falls_in_a_straight_line_by_a_small_adapter(tmp_path):
    losses = [2.5 - 0.02 * place + 0.004 * math.sin(12.9 * place) for place in range(20)]
    assert found(tmp_path, state=log_of(losses), tensors=adapter(2e-3)) == {"lr-too-low": "suggests"}


def test_a_loss_that_has_fallen_to_its_floor_is_not_taken_for_it(tmp_path):
    losses = falling(start=2.5, end=2.0)
    assert found(tmp_path, state=log_of(losses), tensors=adapter(2e-3)) == {}


def test_noise_alone_is_no_rise_where_nothing_moved(tmp_path):
    losses = [2.5, 2.4, 2.6, 2.5, 2.7, 2.4, 2.8, 2.6]
    assert "lr-too-high" not in found(tmp_path, state=log_of(losses), tensors=adapter(1e-6))


# ---------------------------------------------------------------- learned by heart


def test_a_tiny_set_over_many_epochs(tmp_path):
    losses = falling(40, end=0.002, noise=0.001, speed=12)
    evals = [1.2, 0.9, 1.1, 1.6, 2.0]
    assert found(tmp_path, state=log_of(losses, evals=evals, epochs=60.0)) == {"memorised": "proves"}


def test_the_best_checkpoint_that_was_loaded_at_the_end(tmp_path):
    losses = falling(40, end=0.002, noise=0.001, speed=12)
    state = log_of(losses, evals=[1.2, 0.9, 1.1, 1.6, 2.0], epochs=60.0) | {"best_metric": 0.9}
    loaded = {"load_best_model_at_end": True, "eval_strategy": "steps", "save_strategy": "steps"}
    assert found(tmp_path / "best", state=state, arguments=loaded) == {}
    assert found(tmp_path / "last", state=state) == {"memorised": "proves"}


def test_an_evaluation_that_stays_where_it_was_is_not_that(tmp_path):
    losses = falling(40, end=0.002, noise=0.001, speed=12)
    evals = [1.2, 0.5, 0.2, 0.21]
    assert found(tmp_path, state=log_of(losses, evals=evals, epochs=60.0)) == {}


def test_few_epochs_are_not_that(tmp_path):
    losses = falling(40, end=0.002, noise=0.001, speed=12)
    assert found(tmp_path, state=log_of(losses, evals=[1.2, 0.9, 1.1], epochs=3.0)) == {}


# ---------------------------------------------------------------- how a curve is read


def test_the_bend_of_a_curve():
    class Run:
        arguments = {}

    def bend(losses):
        run = Run()
        run.log = [line for line in log_of(losses)["log_history"] if "loss" in line]
        return curve_of(run).bend

    straight = [3.0 - 0.05 * place for place in range(20)]
    assert bend(straight) == pytest.approx(1.0)
    assert bend(falling(20, noise=0.0)) < 0.2
    assert bend([3.0, 2.0]) is None
    assert bend([1.0 + 0.1 * place for place in range(20)]) is None


def test_lines_of_a_part_that_was_trained_twice_count_once():
    class Run:
        arguments = {}
        log = [{"loss": 3.0, "step": 5}, {"loss": 9.0, "step": 10}, {"loss": 2.0, "step": 10}]

    assert curve_of(Run()).losses == [3.0, 2.0]


def test_the_update_is_measured_against_the_base(tmp_path):
    from safetensors.torch import save_file

    from labsupport.run_folders.adapter_size import size_of

    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text("{}")
    torch.manual_seed(1)
    names = [f"model.layers.{n}.self_attn.{m}.weight" for n in range(2) for m in ("q_proj", "v_proj")]
    matrices = {name: torch.randn(64, 64) for name in names}
    save_file(matrices, base / "model.safetensors")
    tensors = adapter(0.1)
    run = opened(made(tmp_path / "run", tensors=tensors, tokenizer=False), model=str(base))
    size = size_of(run)
    name = names[0].removesuffix(".weight")
    a, b = (tensors[f"base_model.model.{name}.lora_{part}.weight"] for part in "AB")
    update = float((2 * b @ a).norm())
    pair = next(pair for pair in size.pairs if pair.module == name)
    assert pair.update == pytest.approx(update, rel=1e-5) and size.measured
    assert size.parameters == sum(one.numel() for one in tensors.values())
    every = [p.update / float(matrices[f"{p.module}.weight"].norm()) for p in size.pairs]
    assert min(every) <= size.relative <= max(every)
