"""The closed forms equal transformers and PEFT on the meta device, exactly; and what bad input is told."""

import functools
import itertools

import pytest

from labsupport.configs import model_configs
from labsupport.configs.model_configs import find
from labsupport.core.files import LabError
from labsupport.sizes import counting
from labsupport.sizes.counting import ALL_LINEAR

NAMED = ("llama-2-7b", "llama-2-13b", "llama-3.1-8b", "llama-3-70b", "mistral-7b-v0.3", "qwen2.5-7b")
SMALL = "smollm2-135m"
ODD = {  # heads wider than hidden / heads, biases everywhere, three key-value heads
    "model_type": "llama",
    "hidden_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 3,
    "head_dim": 32,
    "intermediate_size": 160,
    "vocab_size": 501,
    "tie_word_embeddings": False,
    "attention_bias": True,
    "mlp_bias": True,
}


def on_meta(config):
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(AutoConfig.for_model(**config))


@functools.cache
def base(name):
    return on_meta(find(name))


def peft_counts(model, config):
    """(trainable, all) by PEFT; the model is given back without the adapter."""
    import torch
    from peft import get_peft_model

    with torch.device("meta"):
        adapted = get_peft_model(model, config)
    counts = adapted.get_nb_trainable_parameters()
    if hasattr(adapted.base_model, "unload"):
        adapted.base_model.unload()
    return counts


def lora(targets, rank, **options):
    from peft import LoraConfig

    options = {"task_type": "CAUSAL_LM"} | options
    return LoraConfig(r=rank, target_modules=targets, **options)


@pytest.mark.parametrize("name", model_configs.llama_like())
def test_the_model_itself(name):
    config = find(name)
    parts = dict.fromkeys(counting.model_parts(config), 0)
    for key, parameter in base(name).named_parameters():
        part = next((p for p in (*ALL_LINEAR, "embed_tokens", "lm_head") if p in key), "norms")
        parts["biases" if key.endswith("bias") else part] += parameter.numel()
    assert parts == counting.model_parts(config)


@pytest.mark.parametrize("name", model_configs.names())
def test_a_model_is_as_large_as_was_published(name):
    counted = sum(parameter.numel() for parameter in base(name).parameters())
    assert counted == counting.model_parameters(find(name)) == model_configs.published_parameters(name)


def shallow(name):
    """Two layers of the model: PEFT wraps layers one by one, and eighty take a while."""
    return find(name) | {"num_hidden_layers": 2}


GRID = list(itertools.product((8, 16, 32, 64), ("q+v", "qkvo", "all-linear")))


def check_grid(model, config):
    """all-linear is left to PEFT's own notion of it."""
    for rank, targets in GRID:
        named = targets if targets == "all-linear" else list(counting.SETS[targets])
        trained, total = peft_counts(model, lora(named, rank))
        assert trained == counting.lora_count(config, rank, targets), (rank, targets)
        assert total == counting.model_parameters(config) + trained


@pytest.mark.parametrize("name", [*NAMED, SMALL])
def test_lora_equals_peft(name):
    """Every rank and set on two layers; the whole depth, module by module, at rank 16."""
    import torch
    from peft import get_peft_model

    check_grid(on_meta(shallow(name)), shallow(name))
    with torch.device("meta"):
        adapted = get_peft_model(base(name), lora("all-linear", 16))
    by_module = dict.fromkeys(ALL_LINEAR, 0)
    for key, parameter in adapted.named_parameters():
        if parameter.requires_grad:
            by_module[next(module for module in ALL_LINEAR if module in key)] += parameter.numel()
    adapted.base_model.unload()
    assert by_module == counting.lora_by_module(find(name), 16)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*NAMED, SMALL])
def test_lora_equals_peft_at_every_rank_at_full_depth(name):
    check_grid(base(name), find(name))


@pytest.mark.parametrize("target", ALL_LINEAR)
def test_each_module_alone_under_lora_and_dora(target):
    for config in (shallow(SMALL), ODD):
        model = on_meta(config)
        assert peft_counts(model, lora([target], 12))[0] == counting.lora_count(config, 12, [target])
        dora = peft_counts(model, lora([target], 12, use_dora=True))[0]
        assert dora == counting.dora_count(config, 12, [target])


def test_biases_norms_and_wide_heads():
    model = on_meta(ODD)
    assert sum(p.numel() for p in model.parameters()) == counting.model_parameters(ODD)


@pytest.mark.parametrize("name", [SMALL, "llama-3.1-8b", "qwen2.5-7b"])
def test_dora_equals_peft(name):
    config = find(name) if name == SMALL else shallow(name)
    model = on_meta(config)
    for targets in ("q+v", "all-linear"):
        trained, _ = peft_counts(model, lora(list(counting.SETS[targets]), 16, use_dora=True))
        assert trained == counting.dora_count(config, 16, targets)


@pytest.mark.parametrize("name", [SMALL, "llama-2-7b"])
@pytest.mark.parametrize("targets", [["embed_tokens"], ["lm_head"], ["embed_tokens", "v_proj"]])
@pytest.mark.filterwarnings("ignore::UserWarning")  # PEFT on tied embeddings
def test_embedding_and_head_as_targets(name, targets):
    config = shallow(name)
    for dora, count in ((False, counting.lora_count), (True, counting.dora_count)):
        trained, _ = peft_counts(on_meta(config), lora(targets, 16, use_dora=dora))
        assert trained == count(config, 16, targets)


@pytest.mark.parametrize("bias", ["none", "lora_only", "all"])
def test_trained_biases(bias):
    for config in (shallow("qwen2.5-0.5b"), shallow("llama-3.1-8b"), ODD):
        targets = ["q_proj", "o_proj"]
        trained, _ = peft_counts(on_meta(config), lora(targets, 8, bias=bias))
        expected = counting.lora_count(config, 8, targets) + counting.bias_count(config, bias, targets)
        assert trained == expected


@pytest.mark.parametrize("name", [SMALL, "llama-2-7b", "llama-3.1-8b"])
def test_prompt_and_prefix_tuning_equal_peft(name):
    from peft import PrefixTuningConfig, PromptTuningConfig

    for method, count in (
        (PromptTuningConfig, counting.prompt_tuning),
        (PrefixTuningConfig, counting.prefix_tuning),
    ):
        config = method(task_type="CAUSAL_LM", num_virtual_tokens=20)
        assert peft_counts(base(name), config)[0] == count(find(name), 20)


@pytest.mark.parametrize("biases", [False, True])
def test_bottleneck_adapters_equal_modules(biases):
    """PEFT has none: two small networks a layer, built by hand."""
    from torch import nn

    def adapter():
        return [nn.Linear(576, 24, bias=biases), nn.Linear(24, 576, bias=biases)]

    modules = nn.ModuleList(layer for _ in range(2 * 30) for layer in adapter())
    assert sum(p.numel() for p in modules.parameters()) == counting.bottleneck_adapters(
        find(SMALL), 24, biases
    )


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_adapter_file_to_the_byte(tmp_path, dora, dtype):
    """A real save; the vocabulary is cut, since it is not in the file."""
    import torch
    from peft import get_peft_model
    from safetensors import safe_open
    from transformers import AutoConfig, AutoModelForCausalLM

    config = find(SMALL) | {"vocab_size": 64, "num_hidden_layers": 12}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config))
    adapted = get_peft_model(model, lora("all-linear", 4, use_dora=dora))
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(getattr(torch, dtype))
    adapted.save_pretrained(tmp_path)
    path = tmp_path / "adapter_model.safetensors"
    header, tensors = counting.adapter_bytes(config, 4, dora=dora, dtype=dtype)
    assert path.stat().st_size == header + tensors
    with safe_open(path, "pt") as file:
        saved = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    assert saved == counting.adapter_tensors(config, 4, dora=dora)


@pytest.mark.parametrize("storage", ["uint8", "bfloat16", "float32"])
def test_packed_weights_equal_bitsandbytes_and_peft(storage):
    import torch
    from bitsandbytes.nn import Linear4bit
    from peft import get_peft_model

    from labsupport.core import upstream

    upstream.guard_4bit_on_cpu()
    layer = Linear4bit(64, 192, bias=False, quant_type="nf4", quant_storage=getattr(torch, storage))
    module = torch.nn.Sequential(layer.to("cpu"), torch.nn.LayerNorm(192))
    described = [(type(p).__name__, p.numel(), p.element_size()) for p in module.parameters()]
    assert sum(n for _, n, _ in described) < 64 * 192
    assert counting.unpacked(described) == 64 * 192 + 2 * 192
    trained, total = get_peft_model(module, lora(["0"], 4, task_type=None)).get_nb_trainable_parameters()
    assert (trained, total - trained) == (4 * (64 + 192), counting.unpacked(described))


def test_naive_4bit_halves_the_block_linears_only():
    config = find(SMALL)
    linears = sum(p.numel() for n, p in base(SMALL).named_parameters() if n.split(".")[-2] in ALL_LINEAR)
    assert counting.naive_4bit(config) == counting.model_parameters(config) - linears // 2
    for kind, size in (("Params4bit", 1), ("Params4bit", 2), ("Parameter", 4)):
        assert counting.unpacked([(kind, 10, size)]) == (20 * size if kind == "Params4bit" else 10)


# ---------------------------------------------------------------- searches


def test_which_configurations_print_the_guides_number():
    found = counting.configurations(find("mistral-7b-v0.3"), 27_262_976, (8, 16, 32, 64))
    assert (32, "q_proj+k_proj+v_proj+o_proj") in found and (64, "q_proj+v_proj") in found
    assert (16, "+".join(ALL_LINEAR)) not in found
    model = on_meta(shallow("mistral-7b-v0.3"))
    for rank, targets in found:  # two layers of 32
        assert 16 * peft_counts(model, lora(targets.split("+"), rank))[0] == 27_262_976
    assert len(set(found)) == len(found)


def test_every_number_of_targets_is_searched():
    config = find(SMALL)
    for size in range(1, len(ALL_LINEAR) + 1):
        for targets in (ALL_LINEAR[:size], ALL_LINEAR[-size:]):
            wanted = counting.lora_count(config, 8, targets)
            assert (8, "+".join(targets)) in counting.configurations(config, wanted, (4, 8))


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("rank", "words"),
    [
        (0, ["rank is 0", "at least 1"]),
        (-4, ["rank is -4", "at least 1"]),
        (16.0, ["rank is 16.0", "whole number"]),
        ("16", ["rank is '16'", "whole number"]),
        (True, ["rank is True", "whole number"]),
        (None, ["rank is None", "whole number"]),
        (200, ["rank is 200", "192 x 576", "192 at most"]),
    ],
)
def test_bad_ranks(rank, words):
    for call in (
        lambda: counting.lora_parameters(576, 192, rank),
        lambda: counting.lora_count(find(SMALL), rank, ["k_proj"]),
        lambda: counting.adapter_bytes(find(SMALL), rank, ["k_proj"]),
    ):
        with pytest.raises(LabError) as caught:
            call()
        assert all(word in str(caught.value) for word in words), str(caught.value)


def test_the_largest_rank_is_allowed():
    assert counting.lora_parameters(576, 192, 192) == 192 * (576 + 192)


def test_rank_1_is_allowed():
    assert counting.lora_parameters(576, 192, 1) == 576 + 192


def test_unknown_targets_list_the_valid_ones():
    for targets in (["q_proj", "qproj"], "all_linear", "wq", [], [3]):
        with pytest.raises(LabError) as caught:
            counting.lora_count(find(SMALL), 8, targets)
        text = str(caught.value)
        assert all(name in text for name in (*ALL_LINEAR, "lm_head", "all-linear", "q+v")), text
    assert "'qproj'" in str(pytest.raises(LabError, counting.target_names, ["q_proj", "qproj"]).value)


def test_targets_are_a_set_in_the_models_order():
    assert counting.target_names(["v_proj", "q_proj", "v_proj"]) == ("q_proj", "v_proj")
    assert counting.target_names("down_proj") == ("down_proj",)
    assert counting.target_names(name for name in ALL_LINEAR) == counting.target_names("all-linear")


def test_whole_numbers_are_asked_for_by_what_they_count():
    for call, said in (
        (lambda: counting.prompt_tuning(find(SMALL), 0), "The number of prompt tokens is 0"),
        (lambda: counting.prefix_tuning(find(SMALL), 2.5), "The prefix length is 2.5"),
        (lambda: counting.bottleneck_adapters(find(SMALL), True), "The bottleneck is True"),
    ):
        with pytest.raises(LabError) as caught:
            call()
        assert str(caught.value) == f"{said}: it must be a whole number, at least 1."
    for call, what in (
        (lambda: counting.adapter_tensors(find(SMALL), 200, ["k_proj"]), "k_proj of this model"),
        (lambda: counting.lora_count(find(SMALL), 200, ["k_proj"]), "k_proj of this model"),
        (lambda: counting.lora_parameters(576, 192, 200), "the matrix"),
    ):
        with pytest.raises(LabError, match=f"larger than 192: {what} is 192 x 576 and has rank 192 at most"):
            call()
    with pytest.raises(
        LabError, match="^The file of an adapter on embed_tokens or lm_head also holds the base"
    ):
        counting.adapter_tensors(find(SMALL), 8, ["q_proj", "lm_head"])
    with pytest.raises(LabError, match="^No target module is given: choose among q_proj,"):
        counting.target_names([])


def test_what_is_left_out_is_all_linear_without_biases_in_float32():
    config = find("qwen2.5-0.5b")
    biases = counting.bias_count(config, "lora_only")
    assert biases == counting.bias_count(config, "lora_only", "all-linear") > 0
    assert counting.lora_count(config, 4) == counting.lora_count(config, 4, "all-linear")
    assert counting.dora_count(config, 4) == counting.dora_count(config, 4, "all-linear")
    assert counting.dora_by_module(config) == counting.dora_by_module(config, "all-linear")
    assert counting.bottleneck_adapters(config, 8) == counting.bottleneck_adapters(config, 8, False)
    assert counting.adapter_bytes(config, 4) == counting.adapter_bytes(
        config, 4, "all-linear", False, "float32"
    )


@pytest.mark.parametrize(
    "call",
    [
        lambda c: counting.prompt_tuning(c, 0),
        lambda c: counting.prefix_tuning(c, 2.5),
        lambda c: counting.bottleneck_adapters(c, -1),
        lambda c: counting.bias_count(c, "some"),
        lambda c: counting.adapter_bytes(c, 8, dtype="int8"),
        lambda c: counting.adapter_bytes(c, 8, ["lm_head"]),
        lambda c: counting.model_parameters(c | {"model_type": "mamba"}),
        lambda c: counting.lora_count({k: v for k, v in c.items() if k != "hidden_size"}, 8),
    ],
)
def test_other_bad_input_is_one_sentence(call):
    with pytest.raises(LabError) as caught:
        call(find(SMALL))
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")
