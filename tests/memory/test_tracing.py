"""The tracer against torch.profiler, copied layers and repeated steps against recorded ones."""

import dataclasses

import pytest
from real_runs import real_model
from small_runs import small, told

from labsupport.allocations import caching_allocator, streams
from labsupport.memory import layer_kinds, tracing
from labsupport.memory.watching import measured_peak
from labsupport.setups.setup import Setup


def traced_peak(setup: Setup) -> int:
    depth = setup.config["num_hidden_layers"]
    stream, _ = tracing.record_steps(setup, min(layer_kinds.FEWEST, depth), as_on_gpu=False)
    return streams.peak(streams.deepen(stream, depth), unit=1).bytes


@pytest.mark.parametrize("method", ["lora", "qlora", "dora", "full"])
def test_the_traced_peak_is_the_profilers_on_a_shallow_model(method):
    setup = small(method=method, dtype="fp32", checkpointing=method == "qlora", length=32)
    assert traced_peak(setup) == pytest.approx(measured_peak(setup, real_model(setup)), rel=5e-4)


@pytest.mark.usefixtures("trl_as_it_is")
@pytest.mark.parametrize(
    ("method", "dtype", "checkpointing"),
    [("lora", "fp32", False), ("lora", "bf16", True), ("qlora", "bf16", True), ("full", "fp32", False)],
)
def test_the_trainers_step_is_the_profilers_too(method, dtype, checkpointing):
    """With TRL's own fused head, as it runs on a processor, and autocast to bfloat16."""
    setup = small(method=method, dtype=dtype, checkpointing=checkpointing, length=32, trainer="sft")
    assert traced_peak(setup) == pytest.approx(measured_peak(setup, real_model(setup)), rel=1e-3)


@pytest.mark.usefixtures("trl_as_it_is")
def test_and_without_autocast():
    setup = small(method="lora", dtype="fp32", length=32, trainer="sft", autocast=False)
    assert traced_peak(setup) == pytest.approx(measured_peak(setup, real_model(setup)), rel=1e-3)
    assert streams.peak(tracing.record_steps(setup, 4)[0]).bytes > 0  # and as on a GPU


@pytest.mark.usefixtures("trl_as_it_is")
@pytest.mark.parametrize(
    ("method", "adapters", "checkpointing"),
    [("qlora", "float32", True), ("qlora", "float32", False), ("qdora", "float32", True)]
    + [("lora", "bfloat16", False)],
)
def test_and_with_adapters_that_were_cast_once_the_trainer_was_made(method, adapters, checkpointing):
    setup = small(method=method, checkpointing=checkpointing, length=32, trainer="sft", adapters=adapters)
    model = real_model(setup)
    formats = {str(p.dtype) for n, p in model.named_parameters() if "lora_A" in n or "lora_B" in n}
    assert formats == {f"torch.{adapters}"}
    assert traced_peak(setup) == pytest.approx(measured_peak(setup, model), rel=1e-3)


@pytest.mark.parametrize(("adapters", "size"), [("float32", 4), ("bfloat16", 2), (None, 2)])
def test_gradients_and_adams_states_are_in_what_the_adapters_are(adapters, size):
    setup = small(method="qlora", trainer="sft", adapters=adapters, optimizer="adamw")
    stream, (inside, outside) = tracing.record_steps(setup, 4)
    held = dict.fromkeys(("adapters", "gradients", "optimizer"), 0)
    for block in stream.blocks.values():
        if block.category in held and not block.span.startswith("2"):  # the second step's are the same again
            held[block.category] += block.bytes
    count = (inside + outside) * size
    assert (held["adapters"], held["gradients"]) == (count, count)
    assert held["optimizer"] == pytest.approx(2 * count, rel=1e-3)  # and a counter each


@pytest.mark.parametrize("method", ["lora", "full"])
def test_gradients_live_through_the_next_micro_batch(method):
    setup = small(method=method, dtype="fp32", length=32, accumulation=2)
    assert traced_peak(setup) == pytest.approx(measured_peak(setup, real_model(setup)), rel=1e-3)


def test_on_a_card_the_trainer_never_holds_all_logits():
    """4 x 2,048 tokens of a vocabulary of 49,152 would be 5.6 GB of logits and what is made of them."""
    setup = small(method="lora", batch=4, length=2048, attention="sdpa", padded=False)
    plain, trainer = (
        streams.peak(tracing.record_steps(dataclasses.replace(setup, trainer=name), 4)[0])
        for name in ("plain", "sft")
    )
    assert trainer.bytes < plain.bytes / 5 and trainer.split.get("logits", 0) < 300e6


# All layers in float32; fewer, but still copied ones, in the format that most processors are slow at.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "layers", "length"), [("fp32", 30, 16), ("bf16", layer_kinds.FEWEST + 3, 8)]
)
@pytest.mark.parametrize("method", ["lora", "qlora", "dora", "full"])
def test_the_traced_peak_is_the_profilers_on_the_135m_model(method, dtype, layers, length):
    without = small(layers, method=method, dtype=dtype, checkpointing=False, length=length)
    model = real_model(without)
    assert traced_peak(without) == pytest.approx(measured_peak(without, model), rel=5e-4)
    model.config.use_cache = False
    model.activation_checkpointing_enable()
    with_it = dataclasses.replace(without, checkpointing=True)
    assert traced_peak(with_it) == pytest.approx(measured_peak(with_it, model), rel=5e-4)


VARIANTS = [
    {},
    {"method": "full"},
    {"method": "qdora", "checkpointing": True, "kbit_preparation": True},
    {"padded": False, "attention": "sdpa", "method": "lora", "targets": ("down_proj",)},
    {"method": "full", "optimizer": "adamw_8bit"},
]


@pytest.mark.parametrize("options", VARIANTS)
def test_copied_layers_leave_the_stream_that_real_ones_leave(options):
    setup = small(8, **({"checkpointing": False} | options))
    shallow, _ = tracing.record_steps(setup, layer_kinds.FEWEST)
    whole, _ = tracing.record_steps(setup, 8)
    copied = streams.deepen(shallow, 8)
    assert streams.peak(copied) == streams.peak(whole)
    assert caching_allocator.peak_reserved(copied) == caching_allocator.peak_reserved(whole)

    def story(stream):
        # The norms of all gradients are stacked into one small tensor whose size depends on the depth.
        sizes = {number: max(4096, block.bytes) for number, block in stream.blocks.items()}
        return [(appears, sizes[number], layer, phase) for number, appears, layer, phase in stream.events]

    assert story(copied) == story(whole)


def test_a_model_that_was_traced_before_leaves_the_same_stream():
    built: dict = {}
    setups = [small(batch=batch, padded=padded) for batch, padded in ((2, True), (1, False), (2, True))]
    first, other, again = (tracing.record_steps(setup, 4, built=built)[0] for setup in setups)
    fresh, _ = tracing.record_steps(setups[0], 4)
    assert len(built) == 1
    assert told(again) == told(first) == told(fresh) != told(other)


@pytest.mark.parametrize(
    "changes",
    [{}, {"method": "dora"}, {"method": "qdora", "checkpointing": False}, {"method": "full"}]
    + [{"optimizer": "adamw_8bit"}, {"padded": False}, {"attention": "eager"}],
)
def test_a_step_that_is_repeated_is_the_step_that_would_have_been_recorded(changes):
    setup = small(**changes)
    recorded, _ = tracing.record_steps(setup, 4, history=(0.5, 1.0, 1.0))
    shorter, _ = tracing.record_steps(setup, 4, history=(0.5, 1.0))
    assert told(streams.one_more_step(shorter)) == told(recorded)
