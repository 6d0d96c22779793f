"""The planner: its tracer against torch.profiler, its answer against published figures, its manners."""

import dataclasses
import gc
import itertools
import json
from unittest import mock

import pytest

from labsupport.core import profiles
from labsupport.core.files import LabError
from labsupport.memory import allocation, closed_form, planner, streams
from labsupport.models import gpus, model_configs

# huggingface/peft, method_comparison/MetaMathQA/results at commit 5d602fdb, accelerator_memory_max in GiB:
# L40S, Llama-3.2-3B. 640 tokens for the longest batch is the one thing that was fitted, to the first row.
ATTENTION, MLP = "q_proj,v_proj", "up_proj,gate_proj,down_proj"
PUBLISHED = [
    ("lora", "32", ATTENTION, 20.762),
    ("lora", "64", ATTENTION, 21.004),
    ("rslora", "64", ATTENTION, 21.011),
    ("dora", "32", ATTENTION, 22.848),
    ("lora", "10", MLP, 23.002),
    ("full", "16", ATTENTION, 36.199),  # rank and targets are without meaning here
]
COMMAND = "--model llama-3.2-3b --batch 4 --seq 640 --dtype bf16 --no-checkpointing --optim adamw --padded"


def small(layers: int = 4, **options) -> planner.Setup:
    config = dict(model_configs.find("smollm2-135m"), num_hidden_layers=layers)
    return dataclasses.replace(
        planner.Setup(config=config, batch=2, length=128, attention="eager"), **options
    )


def real_model(setup: planner.Setup):
    """The setup's model on the CPU. Its weights are whatever was in memory: only their sizes matter, and
    drawing random ones takes most of the time."""
    import torch
    from transformers import PreTrainedModel
    from transformers.initialization import no_init_weights

    from labsupport.core import upstream
    from labsupport.memory import workload

    upstream.guard_4bit_on_cpu()
    torch.set_num_threads(1)
    tie = mock.patch.object(PreTrainedModel, "init_weights", PreTrainedModel.tie_weights)
    with no_init_weights(), tie:
        return workload.build(setup, setup.config["num_hidden_layers"], "cpu")


def measured_peak(setup: planner.Setup, model) -> int:
    """Bytes at the peak of two real steps on the CPU, by torch.profiler."""
    from torch.profiler import ProfilerActivity, profile

    from labsupport.memory import workload

    optimizer = workload.optimizer_for(setup, workload.trainable(model))
    batch = workload.batch_for(setup, "cpu")
    live = {}
    for tensor in [*model.parameters(), *model.buffers(), *batch.values()]:
        state = getattr(tensor, "quant_state", None)
        parts = [tensor]
        while state is not None:
            parts += [part for part in (state.absmax, state.code, state.offset) if part is not None]
            state = state.state2
        live |= {part.untyped_storage().data_ptr(): part.untyped_storage().nbytes() for part in parts}
    held = []
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        for _ in range(2):
            workload.step(model, batch, optimizer, held)
    optimizer.zero_grad()  # the model may be measured again
    events = [event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = highest = sum(live.values())
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        highest = max(highest, now)
    return highest


def traced_peak(setup: planner.Setup) -> int:
    from labsupport.memory import tracing

    depth = setup.config["num_hidden_layers"]
    stream, _ = tracing.record(setup, min(planner.DEPTH, depth))
    return streams.peak(streams.deepen(stream, depth), unit=1).bytes


@pytest.mark.parametrize("method", ["lora", "qlora", "dora", "full"])
def test_the_traced_peak_is_the_profilers_on_a_shallow_model(method):
    setup = small(method=method, dtype="fp32", checkpointing=method == "qlora", length=32)
    assert traced_peak(setup) == pytest.approx(measured_peak(setup, real_model(setup)), rel=5e-4)


# All layers in float32; fewer, but still copied ones, in the format that most processors are slow at.
@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "layers", "length"), [("fp32", 30, 16), ("bf16", planner.DEPTH + 3, 8)])
@pytest.mark.parametrize("method", ["lora", "qlora", "dora", "full"])
def test_the_traced_peak_is_the_profilers_on_the_135m_model(method, dtype, layers, length):
    without = small(layers, method=method, dtype=dtype, checkpointing=False, length=length)
    model = real_model(without)
    assert traced_peak(without) == pytest.approx(measured_peak(without, model), rel=5e-4)
    model.config.use_cache = False
    model.activation_checkpointing_enable()
    with_it = dataclasses.replace(without, checkpointing=True)
    assert traced_peak(with_it) == pytest.approx(measured_peak(with_it, model), rel=5e-4)


@pytest.mark.parametrize(("method", "rank", "targets", "published"), PUBLISHED)
def test_reserved_is_within_one_percent_of_published_gpu_measurements(
    method, rank, targets, published, capsys
):
    asked = ["--method", method, "--rank", rank, "--targets", targets, "--gpu", "l40s", "--json"]
    status = planner.main([*COMMAND.split(), *asked])
    document = json.loads(capsys.readouterr().out)
    assert status == 0
    assert document["fits"] is True
    assert document["peak_reserved_gib"] == pytest.approx(published, rel=0.01)
    assert sum(document["split_gib"].values()) == pytest.approx(document["peak_allocated_gib"], rel=1e-6)


VARIANTS = [
    {},
    {"method": "full"},
    {"method": "qdora", "checkpointing": True, "kbit_preparation": True},
    {"padded": False, "attention": "sdpa", "method": "lora", "targets": ("down_proj",)},
    {"method": "full", "optimizer": "adamw_8bit"},
]


@pytest.mark.parametrize("options", VARIANTS)
def test_copied_layers_leave_the_stream_that_real_ones_leave(options):
    from labsupport.memory import tracing

    setup = small(8, **({"checkpointing": False} | options))
    shallow, _ = tracing.record(setup, planner.DEPTH)
    whole, _ = tracing.record(setup, 8)
    copied = streams.deepen(shallow, 8)
    assert streams.peak(copied) == streams.peak(whole)
    assert allocation.peak_reserved(copied) == allocation.peak_reserved(whole)

    def story(stream):
        # The norms of all gradients are stacked into one small tensor whose size depends on the depth.
        sizes = {number: max(4096, block.bytes) for number, block in stream.blocks.items()}
        return [(appears, sizes[number], layer, phase) for number, appears, layer, phase in stream.events]

    assert story(copied) == story(whole)


def test_a_stream_too_shallow_is_not_deepened():
    with pytest.raises(LabError, match="trace it whole"):
        streams.deepen(streams.Stream(2), 8)


def test_the_allocator_follows_the_rules_of_the_cuda_one():
    allocator = allocation.CachingAllocator()
    mib = 2**20
    first = allocator.take(1)
    assert (first.size, allocator.reserved) == (512, 2 * mib)  # small: 2 MiB segments
    allocator.take(5 * mib)
    assert allocator.reserved == 22 * mib  # under 10 MiB: a segment of 20
    large = allocator.take(15 * mib)
    assert (large.size, allocator.reserved) == (15 * mib, 22 * mib)  # the rest of the 20 held it exactly
    exact = allocator.take(33 * mib)
    assert (exact.size, allocator.reserved) == (34 * mib, 56 * mib)  # a rest of 1 MiB is not split off
    allocator.give(exact)
    assert allocator.take(20 * mib).size == 20 * mib
    assert allocator.reserved == allocator.peak == 56 * mib


def test_emptying_the_cache_returns_only_segments_without_a_used_piece():
    allocator = allocation.CachingAllocator()
    mib = 2**20
    kept, part, whole = allocator.take(5 * mib), allocator.take(9 * mib), allocator.take(40 * mib)
    allocator.give(part)
    allocator.give(whole)
    allocator.empty_cache()
    assert (allocator.reserved, allocator.peak) == (20 * mib, 60 * mib)
    assert allocator.take(12 * mib).before is kept  # the free rest of the kept segment still serves
    assert allocator.reserved == 20 * mib
    allocator.take(40 * mib)
    assert allocator.reserved == 60 * mib


def test_the_closed_form_agrees_with_the_trace_without_a_mask():
    for method in ("lora", "qlora"):
        for checkpointing in (False, True):
            found = planner.plan("llama-3.1-8b", method, seq=1024, checkpointing=checkpointing, padded=False)
            assert found.closed_form_gib == pytest.approx(found.peak_allocated_gib, rel=0.02)


def test_a_token_keeps_288_kib_in_a_layer_of_the_8b_model():
    setup = planner.Setup(config=model_configs.find("llama-3.1-8b"), padded=False)
    assert closed_form.activation_bytes(setup) / 1024 == pytest.approx(288, rel=0.01)


def test_the_peak_of_the_8b_model_is_the_loss_and_8_bit_adam_does_not_move_it_by_more_than_its_states():
    setup = {"model": "llama-3.1-8b", "method": "lora", "seq": 2048, "batch": 4, "padded": False}
    plain, light = planner.plan(**setup), planner.plan(**setup, optim="adamw_8bit")
    assert plain.phase == light.phase == "loss"
    saved = plain.split_gib["optimizer"] - light.split_gib["optimizer"]
    assert plain.peak_allocated_gib - light.peak_allocated_gib == pytest.approx(saved, rel=1e-6)
    assert plain.split_gib["logits"] == pytest.approx(4 * 2048 * 128256 * 14 / 2**30, rel=1e-3)


def test_trainable_parameters_are_pefts():
    counts = {16: 41_943_040, 64: 167_772_160}  # facts of notebook 03: Llama-3.1-8B, all-linear
    for rank, count in counts.items():
        assert planner.plan("llama-3.1-8b", rank=rank).trainable_parameters == count


def test_what_does_not_fit_gets_changes_that_do():
    found = planner.plan("llama-3.1-8b", "lora", seq=2048, checkpointing=False, gpu="l4")
    assert found.fits is False and found.margin_gib < 0
    assert found.suggestions
    for suggestion in found.suggestions:
        options = dict(suggestion.options)
        asked = {"method": "lora", "seq": options.pop("length", 2048), "checkpointing": False} | options
        again = planner.plan("llama-3.1-8b", gpu="l4", **asked)
        assert again.fits
        assert again.peak_reserved_gib == suggestion.peak_reserved_gib


def test_a_suggestion_is_not_followed_by_one_that_only_goes_further():
    found = planner.plan("llama-3.1-8b", "lora", batch=16, seq=1024, checkpointing=False, gpu="l4")
    options = [suggestion.options for suggestion in found.suggestions]
    assert options
    for earlier, later in itertools.combinations(options, 2):
        assert not planner._goes_further(later, earlier)
    assert planner._goes_further({"checkpointing": True, "batch": 1}, {"checkpointing": True, "batch": 2})
    assert not planner._goes_further({"batch": 1}, {"checkpointing": True, "batch": 2})


def test_a_change_that_is_passed_over_by_arithmetic_would_not_have_fitted():
    setup = planner.Setup(model_configs.find("llama-3.2-3b"), "dora", checkpointing=False, batch=8)
    traced = [(setup, reserved(setup))]
    for options in ({"batch": 4}, {"batch": 1}, {"length": 256}, {"method": "qdora"}):
        changed = dataclasses.replace(setup, **options)
        likely, real = planner._likely(changed, traced), reserved(changed)
        assert 0.8 * real < likely < planner.LIKELY["sdpa"] * real
    assert planner._likely(dataclasses.replace(setup, checkpointing=True), traced) == 0


def reserved(setup: planner.Setup) -> int:
    return planner.peak_reserved(setup, planner.trace(setup)[0])


def test_shorter_rows_are_the_last_resort():
    found = planner.plan("llama-3.2-3b", "dora", batch=8, seq=1024, gpu=12).suggestions
    assert found and not any("length" in suggestion.options for suggestion in found)
    found = planner.plan("llama-3.2-3b", "qlora", batch=1, seq=2048, checkpointing=False, gpu=5).suggestions
    assert found and all("length" in suggestion.options for suggestion in found)


def test_a_model_that_was_traced_before_leaves_the_same_stream():
    from labsupport.memory import tracing

    built: dict = {}
    setups = [small(batch=batch, padded=padded) for batch, padded in ((2, True), (1, False), (2, True))]
    first, other, again = (tracing.record(setup, 4, built=built)[0] for setup in setups)
    fresh, _ = tracing.record(setups[0], 4)
    assert len(built) == 1
    assert told(again) == told(first) == told(fresh) != told(other)


@pytest.mark.parametrize(
    "changes",
    [{}, {"method": "dora"}, {"method": "qdora", "checkpointing": False}, {"method": "full"}]
    + [{"optimizer": "adamw_8bit"}, {"padded": False}, {"attention": "eager"}],
)
def test_a_step_that_is_repeated_is_the_step_that_would_have_been_recorded(changes):
    from labsupport.memory import tracing

    setup = small(**changes)
    recorded, _ = tracing.record(setup, 4, history=(0.5, 1.0, 1.0))
    shorter, _ = tracing.record(setup, 4, history=(0.5, 1.0))
    assert told(streams.one_more_step(shorter)) == told(recorded)


def told(stream) -> list:
    """What a stream says, without the numbers of its blocks."""
    return [(stream.blocks[number], *rest) for number, *rest in stream.events]


def test_nf4_is_labelled_unverified_wherever_it_is_printed(capsys):
    assert planner.main(["--model", "smollm2-135m", "--method", "qlora", "--gpu", "24"]) == 0
    assert "UNVERIFIED" in capsys.readouterr().out
    assert planner.main(["--model", "smollm2-135m", "--method", "lora", "--gpu", "24"]) == 0
    assert "UNVERIFIED" not in capsys.readouterr().out


def test_a_card_too_small_for_anything_is_an_answer_too(capsys):
    assert planner.main(["--model", "llama-3.1-8b", "--method", "qlora", "--gpu", "2"]) == 0
    assert "DOES NOT FIT" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--model lama-3.1-8b", "llama-3.1-8b"),
        ("--model smollm2-135m --gpu l4s", "l40s"),
        ("--model smollm2-135m --gpu -3", "above 0"),
        ("--model smollm2-135m --gpu nan", "above 0"),
        ("--model smollm2-135m --method qlor", "nearest first: qlora"),
        ("--model smollm2-135m --method qfull", "full fine-tuning"),
        ("--model smollm2-135m --targets q_prj,v_proj", "nearest first: q_proj"),
        ("--model smollm2-135m --targets ,", "No targets"),
        ("--model smollm2-135m --seq 100000", "positions"),
        ("--model smollm2-135m --batch 0", "batch is 0"),
        ("--model smollm2-135m --rank -1", "rank is -1"),
        ("--model smollm2-135m --seq ten", "not a whole number"),
        ("--model smollm2-135m --dtype int8", "no dtype 'int8'"),
        ("--model smollm2-135m --method full --kbit-prep", "4-bit"),
        ("--model smollm2-135m --method full --double-quant", "full fine-tuning"),
        ("--model smollm2-135m --method full --dtype nf4", "full fine-tuning"),
    ],
)
def test_bad_input_is_one_sentence(arguments, words):
    with pytest.raises(LabError, match=words):
        planner.main(arguments.split())


def test_an_unsupported_architecture_names_the_supported_ones(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    with pytest.raises(LabError, match="llama, mistral, qwen2"):
        planner.main(["--config", str(tmp_path / "config.json")])


@pytest.mark.parametrize(("profile", "card"), [("gpu-16gb", "t4"), ("gpu-24gb", "a10"), ("gpu-80gb", "h100")])
def test_every_gpu_profile_fits_its_card_with_15_percent_to_spare(profile, card):
    chosen = profiles.get(profile)
    dtype = (
        "fp16" if card == "t4" else {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}[chosen.dtype]
    )
    found = planner.plan(
        chosen.base_model,
        "qlora" if chosen.quantize else "lora",
        rank=16,
        batch=chosen.batch_size,
        seq=chosen.max_length,
        dtype=dtype,
        attention=chosen.attention,
        gpu=card,
    )
    assert found.margin_gib >= 0.15 * gpus.find(card).memory_gib


# The patches of private library parts: each is still needed, and none is left behind.


def test_positions_are_still_read_to_find_packed_documents():
    import torch
    from transformers import masking_utils

    with pytest.raises(RuntimeError, match="meta"):
        masking_utils.find_packed_sequence_indices(torch.zeros(1, 4, dtype=torch.long, device="meta"))


def test_a_mask_is_still_read_to_see_whether_it_hides_anything():
    import torch
    from transformers import masking_utils

    with pytest.raises(RuntimeError, match="meta"):
        bool(masking_utils.fast_all(torch.ones(1, 4, dtype=torch.bool, device="meta")))


def test_attention_on_meta_still_makes_the_square_matrix():
    import torch

    from labsupport.memory import tracing

    query = torch.empty(1, 1, 64, 8, device="meta", requires_grad=True)

    def biggest() -> int:
        recorder = tracing.Recorder(1, 0)
        with recorder:
            torch.nn.functional.scaled_dot_product_attention(query, query, query, is_causal=True)
        return max(block.bytes for block in recorder.stream.blocks.values())

    assert biggest() >= 64 * 64 * 4
    with tracing.patched():
        assert biggest() < 64 * 64 * 4


def test_a_4_bit_weight_on_meta_still_cannot_be_deep_copied():
    import copy

    from bitsandbytes.nn import Linear4bit

    from labsupport.memory import tracing

    layer = Linear4bit(64, 64, bias=False, quant_type="nf4", device="meta")
    layer.weight._quantize("meta")
    with pytest.raises(RuntimeError):
        copy.deepcopy(layer.weight)
    with tracing.patched():
        copy.deepcopy(layer.weight)


def test_peft_still_reads_rules_for_older_adapters_and_a_trace_does_without(monkeypatch):
    import peft.utils.transformers_weight_conversion as conversion

    from labsupport.memory import tracing, workload

    read = mock.Mock(wraps=conversion.get_model_conversion_mapping)
    monkeypatch.setattr(conversion, "get_model_conversion_mapping", read)
    usual = parameters(workload.build(small(method="dora"), 2))
    assert read.called and usual["device"] == {"meta"}
    read.reset_mock()
    with tracing.patched():
        assert parameters(workload.build(small(method="dora"), 2)) == usual
    assert not read.called


def parameters(model) -> dict:
    named = dict(model.named_parameters())
    told = {name: (tuple(p.shape), p.dtype, p.requires_grad) for name, p in named.items()}
    return told | {"device": {p.device.type for p in named.values()}}


def test_the_4_bit_product_still_hides_its_weight_and_the_recorder_shows_it():
    import torch
    from bitsandbytes.nn import Linear4bit

    from labsupport.memory import tracing

    layer = Linear4bit(64, 128, bias=False, quant_type="nf4", device="meta", compute_dtype=torch.float32)
    layer.weight._quantize("meta")
    recorder = tracing.Recorder(1, 0)
    with recorder:
        layer(torch.empty(2, 64, device="meta"))
    assert 64 * 128 * 4 in {block.bytes for block in recorder.stream.blocks.values()}
    assert recorded_sizes_without_routing(layer) == {2 * 128 * 4}


def recorded_sizes_without_routing(layer) -> set[int]:
    """The same product, seen by a plain mode: only its result shows."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    sizes = set()

    class Plain(TorchDispatchMode):
        def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
            result = operation(*args, **(kwargs or {}))
            if "gemm_4bit" in str(operation):
                sizes.add(result.untyped_storage().nbytes())
            return result

    with Plain():
        layer(torch.empty(2, 64, device="meta"))
    return sizes


def test_bitsandbytes_still_keeps_a_code_without_data_and_tracing_takes_it_away():
    import torch
    from bitsandbytes.functional import name2qmap, quantize_4bit

    from labsupport.memory import tracing

    name2qmap.clear()
    with tracing.patched():
        quantize_4bit(torch.empty(64, 64, device="meta"), quant_type="nf4", compress_statistics=True)
        assert name2qmap["dynamic"].device.type == "meta"
    assert not name2qmap
    quantize_4bit(torch.randn(64, 64), quant_type="nf4", compress_statistics=True)


def test_patches_are_taken_back():
    import torch
    from bitsandbytes.nn import Params4bit
    from transformers import masking_utils

    from labsupport.memory import tracing

    def parts():
        function = torch.nn.functional.scaled_dot_product_attention
        masks = (masking_utils.find_packed_sequence_indices, masking_utils.fast_all)
        return (*masks, function, Params4bit.__deepcopy__)

    before = parts()
    with pytest.raises(ZeroDivisionError), tracing.patched():
        assert all(new is not old for new, old in zip(parts(), before, strict=True))
        raise ZeroDivisionError
    assert parts() == before


def test_a_trace_leaves_real_attention_alone():
    """A learner may press Trace while a training runs in another thread."""
    import torch

    from labsupport.memory import tracing

    torch.manual_seed(0)
    query, key, value = torch.randn(3, 1, 2, 5, 8)
    attend = torch.nn.functional.scaled_dot_product_attention
    expected = attend(query, key, value, is_causal=True)
    with tracing.patched():
        assert torch.nn.functional.scaled_dot_product_attention is not attend
        assert torch.equal(
            torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True), expected
        )
    assert torch.nn.functional.scaled_dot_product_attention is attend
