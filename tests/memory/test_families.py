"""Every family's trace: a few layers stand for all, and the peak is the one that torch.profiler measures."""

import dataclasses

import pytest
from family_configs import FAMILIES, small
from real_runs import real_model

from labsupport.allocations import caching_allocator, streams
from labsupport.configs import model_configs
from labsupport.memory import anatomy, layer_kinds, stand_ins, tracing, watching, workload
from labsupport.setups.setup import Setup, checked

EXPERTS = ("mixtral", "qwen3 moe")


def run(family: str, layers: int, **options) -> Setup:
    """Two rows of 48 tokens, more than a window holds, in float32 without checkpointing; a plain loop."""
    usual = {"batch": 2, "length": 48, "dtype": "fp32", "checkpointing": False, "attention": "eager"}
    return checked(Setup(small(family, layers), **({"trainer": "plain"} | usual | options)))


def traced(setup: Setup, as_on_gpu: bool = True) -> streams.Stream:
    """The stream of a few layers, deepened."""
    shallow, period = layer_kinds.to_trace(setup)
    stream, _ = tracing.record_steps(setup, shallow, as_on_gpu=as_on_gpu)
    return streams.deepen(stream, setup.config["num_hidden_layers"], period)


# Rows without a mask, of which layers with a window need one and others do not; and the trainer's own step.
PACKED = {"attention": "sdpa", "padded": False, "dtype": "bf16"}
TRAINER = {"trainer": "sft", "checkpointing": True, "attention": "sdpa", "dtype": "bf16"}
# So deep that the repeated layers are copied; one by one, and in Gemma-2 and others by their distance, too.
DEPTHS = {"gemma2": 10, "gemma3": 14, "smollm3": 10}


@pytest.mark.parametrize("options", [PACKED, TRAINER], ids=["packed", "trainer"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_few_layers_stand_for_all(family, options):
    setup = run(family, DEPTHS.get(family, 6), **options)
    shallow, _ = layer_kinds.to_trace(setup)
    assert shallow < setup.config["num_hidden_layers"]
    whole, _ = tracing.record_steps(setup, setup.config["num_hidden_layers"])
    few = traced(setup)
    assert streams.peak(few) == streams.peak(whole)
    assert caching_allocator.peak_reserved(few) == caching_allocator.peak_reserved(whole)


def test_gemma_3s_layers_are_as_good_as_alike_where_the_window_holds_the_row():
    """They differ in their rotation's tables, which go at other times: a quarter of a MiB here."""
    config = model_configs.find("gemma-3-1b") | {"num_hidden_layers": 14}
    setup = checked(Setup(config, length=256))
    assert layer_kinds.to_trace(setup) == (3, 1)
    whole, _ = tracing.record_steps(setup, 14)
    assert streams.peak(traced(setup)).bytes == pytest.approx(streams.peak(whole).bytes, rel=1e-3)


def relative_error(setup: Setup) -> float:
    """Of the traced peak, as it is on a processor, against the measured one."""
    peak = streams.peak(traced(setup, as_on_gpu=False), unit=1).bytes
    return peak / watching.measured_peak(setup, real_model(setup)) - 1


@pytest.mark.usefixtures("trl_as_it_is")
@pytest.mark.parametrize("trainer", ["plain", "sft"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_peak_is_the_profilers(family, trainer):
    layers = 8 if family == "gemma3" else 4  # one that attends to everything, one without positions
    assert abs(relative_error(run(family, layers, trainer=trainer))) < 1e-3


@pytest.mark.usefixtures("trl_as_it_is")
@pytest.mark.parametrize("family", ["gemma2", "gpt2", "phi3", "qwen3 moe"])
def test_in_4_bits_the_peak_is_the_profilers(family):
    setup = run(family, 4, method="qlora", trainer="sft", dtype="bf16")
    assert abs(relative_error(setup)) < 1e-3


@pytest.mark.parametrize("method", ["lora", "qlora", "dora", "qdora"])
@pytest.mark.parametrize("trainer", ["plain", "sft"])
@pytest.mark.usefixtures("trl_as_it_is")
def test_dropout_of_the_adapters_inputs_is_the_profilers(method, trainer):
    setup = run("llama", 4, method=method, trainer=trainer, dropout=0.1)
    assert abs(relative_error(setup)) < 1e-3


@pytest.mark.parametrize(("as_on_gpu", "bytes_each"), [(True, 1), (False, 4)])
def test_on_a_card_dropout_keeps_a_byte_a_number(as_on_gpu, bytes_each):
    """A processor keeps a number as wide as the input's."""
    setup = run("llama", 4, dropout=0.1, padded=False)
    found = []
    for each in (setup, dataclasses.replace(setup, dropout=0.0)):
        with stand_ins.in_use("plain", as_on_gpu):
            model = workload.build_model(each, 4).train()
            kept = watching.kept(lambda model=model, each=each: model(**workload.batch_for(each)))
        held = watching.held_bytes(model)
        found.append(sum(t.nbytes for t in kept if t.untyped_storage()._cdata not in held))
    # Each of seven inputs a layer is kept for itself, not once for q, k and v and once for gate and up; each
    # has a mask but for q, k and v of the first layer, where nothing goes further back.
    masks, inputs = 4 * (6 * 64 + 96) - 3 * 64, 4 * 3 * 64
    assert found[0] - found[1] == 2 * 48 * (masks * bytes_each + inputs * 4)


@pytest.mark.parametrize("family", EXPERTS)
@pytest.mark.usefixtures("trl_as_it_is")
def test_frozen_experts_are_the_profilers_and_take_far_less(family):
    attention = run(family, 4, targets=("q_proj", "k_proj", "v_proj", "o_proj"), trainer="sft")
    assert abs(relative_error(attention)) < 1e-3
    everything = dataclasses.replace(attention, targets="all-linear")
    frozen, adapted = (streams.peak(traced(setup)).split for setup in (attention, everything))
    assert frozen["adapters"] < adapted["adapters"] / 4
    # The adapted weights of every layer's experts are kept for the backward pass.
    kept = 4 * 4 * sum(experts_of(attention.config))
    assert adapted["activations"] - frozen["activations"] > kept


def experts_of(config: dict) -> list[int]:
    """Numbers in the experts of a layer, matrix by matrix."""
    experts = config.get("num_local_experts") or config["num_experts"]
    inner = config.get("moe_intermediate_size") or config["intermediate_size"]
    return [experts * 2 * inner * config["hidden_size"], experts * inner * config["hidden_size"]]


def test_experts_stay_in_16_bits_when_the_rest_is_packed():
    """And so most of the weights: bitsandbytes issue 1849."""
    setup = run("mixtral", 4, method="qlora", dtype="bf16")
    plain = dataclasses.replace(setup, method="lora")
    packed, whole = (streams.peak(traced(each)).split["weights"] for each in (setup, plain))
    assert packed > 4 * 2 * sum(experts_of(setup.config))
    assert whole - packed < 0.2 * whole


@pytest.mark.parametrize(("options", "balanced"), [({}, True), ({"router_aux_loss_coef": 0.0}, False)])
def test_the_trainer_balances_experts_unless_the_file_says_no(options, balanced):
    """By TRL's rule, whatever output_router_logits says."""
    setup = checked(Setup(small("mixtral", 1) | options, trainer="sft", dtype="fp32"))
    with stand_ins.in_use("sft"):
        model = workload.build_model(setup, 1)
    assert anatomy.core(model).config.output_router_logits is balanced
