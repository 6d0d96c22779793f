"""Each family's layers, defaults and targets, held to transformers, PEFT and bitsandbytes' loader."""

import math
from collections import Counter

import pytest
from family_configs import FAMILIES, small

from labsupport.configs import architectures, model_configs
from labsupport.core.files import LabError
from labsupport.sizes import counting

VISION = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27}
VISION |= {"num_attention_heads": 16, "image_size": 896, "patch_size": 14, "vision_use_head": False}


def on_meta(config):
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from labsupport.memory import workload

    config = model_configs.checked(config)
    config = workload.shallow_config(config, config["num_hidden_layers"])
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(AutoConfig.for_model(**config))


def part_of(name: str, config: dict) -> str:
    """The part that counting.model_parts has a parameter in."""
    around = {f"{path}.": part for part, path in architectures.of(config).layers.items()}
    around |= {"mlp.experts.gate_up_proj": "gate_up_proj", "mlp.experts.down_proj": "down_proj"}
    around |= {"mlp.gate.weight": "gate", "lm_head.": "lm_head", "wpe.": "wpe"}
    around |= {f"{counting.outside(config)[0]}.": counting.outside(config)[0]}
    part = next((part for piece, part in around.items() if piece in name), "norms")
    return "biases" if name.endswith(".bias") and part != "norms" else part


def counted_parts(config: dict) -> dict[str, int]:
    counts = Counter()
    for name, parameter in on_meta(config).named_parameters():
        counts[part_of(name, config)] += parameter.numel()
    return dict(counts)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_parts_of_a_model_are_those_that_transformers_makes(family):
    config = model_configs.checked(small(family, 3))
    counted = counting.model_parts(config)
    assert {part: count for part, count in counted.items() if count} == counted_parts(config)


@pytest.mark.parametrize("kind", architectures.NAMES)
def test_what_a_file_leaves_out_is_what_transformers_takes(kind):
    from transformers import AutoConfig

    usual = AutoConfig.for_model(model_type=kind)
    for name, value in architectures.ARCHITECTURES[kind].defaults.items():
        assert getattr(usual, name) == value, name


def adapted(config: dict, targets, rank: int = 8, **options) -> tuple[int, int]:
    """(trained, all) as PEFT's print_trainable_parameters says."""
    import torch
    from peft import LoraConfig, get_peft_model

    lora = LoraConfig(
        r=rank,
        target_modules=targets,
        task_type="CAUSAL_LM",
        fan_in_fan_out=config["model_type"] == "gpt2",
        **options,
    )
    with torch.device("meta"):
        return get_peft_model(on_meta(config), lora).get_nb_trainable_parameters()


of_peft = pytest.mark.filterwarnings("ignore:.*pattern keys did not match:RuntimeWarning")


@of_peft
@pytest.mark.parametrize("family", FAMILIES)
def test_all_linear_is_what_peft_makes_of_it(family):
    config = small(family, 2)
    trained, everything = adapted(config, "all-linear")
    assert trained == counting.lora_count(config, 8)
    assert everything - trained == counting.model_parameters(config)


@pytest.mark.parametrize("family", ["phi3", "falcon", "gpt2"])
def test_each_layer_can_be_a_target_by_its_name(family):
    config = model_configs.checked(small(family, 2))
    for name in counting.block_shapes(config):
        assert adapted(config, [name])[0] == counting.lora_count(config, 8, [name])
        dora = adapted(config, [name], use_dora=True)[0]
        assert dora == counting.dora_count(config, 8, [name])


def test_c_proj_means_both_layers_of_that_name():
    config = small("gpt2", 2)
    assert adapted(config, ["c_proj"])[0] == counting.lora_count(config, 8, ["c_proj"])
    assert counting.target_names(["c_proj"], config) == ("attn.c_proj", "mlp.c_proj")


@of_peft
@pytest.mark.parametrize(
    ("family", "targets"),
    [
        ("mixtral", ["w1", "w3"]),
        ("mixtral", ["w2", "gate"]),
        ("qwen3 moe", ["gate_proj", "up_proj", "down_proj"]),
        ("qwen3 moe", ["q_proj", "gate"]),
    ],
)
def test_experts_are_targets_by_the_names_they_had(family, targets):
    config = small(family, 2)
    assert adapted(config, targets)[0] == counting.lora_count(config, 8, targets)


@pytest.mark.parametrize("path", architectures.EXPERT_PATHS)
def test_experts_are_targets_by_their_path(path):
    config = small("mixtral", 2)
    trained, _ = adapted(config, ["q_proj"], target_parameters=[path])
    assert trained == counting.lora_count(config, 8, ["q_proj", path])


@pytest.mark.parametrize("family", FAMILIES)
def test_4_bits_are_for_the_layers_that_the_loader_packs(family):
    """transformers' own replacement of layers, without any weights."""
    from bitsandbytes.nn import Linear4bit
    from transformers import BitsAndBytesConfig
    from transformers.integrations.bitsandbytes import replace_with_bnb_linear
    from transformers.quantizers.base import get_keys_to_not_convert

    config = model_configs.checked(small(family, 2))
    model = on_meta(config)
    kept = get_keys_to_not_convert(model)
    model = replace_with_bnb_linear(model, kept, BitsAndBytesConfig(load_in_4bit=True))
    packed = {name for name, module in model.named_modules() if isinstance(module, Linear4bit)}
    kind = architectures.of(config)
    expected = [kind.layers[name] for name in architectures.in_4_bits(config)]
    assert packed == {f"{kind.stem}.{layer}.{path}" for layer in range(2) for path in expected}


@pytest.mark.parametrize(
    ("name", "total"),
    [("gemma-3-4b", 4_300_079_472), ("gemma-3-12b", 12_187_325_040), ("gemma-3-27b", 27_432_406_640)],
)
def test_gemma_3_is_the_published_model_without_what_sees(name, total):
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText

    text = model_configs.find(name) | {"num_hidden_layers": 1}
    text.pop("notes")
    whole = AutoConfig.for_model("gemma3", text_config=text, vision_config=VISION)
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(whole)
    sees = sum(p.numel() for p in model.parameters()) - counting.model_parameters(text)
    assert counting.model_parameters(model_configs.find(name)) + sees == total


def test_other_names_of_the_sizes_are_read():
    config = {
        "model_type": "gpt2",
        "n_embd": 48,
        "n_layer": 2,
        "n_head": 4,
        "n_positions": 32,
        "n_inner": None,
    }
    counted = counting.model_parts(config)
    assert {n: c for n, c in counted.items() if c} == counted_parts(model_configs.checked(config))
    assert counting.model_parts(config)["wpe"] == 32 * 48
    assert counting.prefix_tuning(config, 10) == 2 * 10 * 2 * 48


def test_widths_of_falcon_follow_from_how_it_shares_keys():
    families = {"falcon": 1, "falcon of 40B": 2, "falcon-rw": 4}
    for family, heads in families.items():
        config = model_configs.checked(small(family, 2))
        assert architectures.widths(config) == (64, 16 * heads)


def test_the_adapters_file_has_the_familys_names():
    tensors = counting.adapter_tensors(small("gpt2", 1), 4, ["c_proj"])
    assert set(tensors) == {
        f"base_model.model.transformer.h.0.{block}.c_proj.lora_{side}.weight"
        for block in ("attn", "mlp")
        for side in "AB"
    }
    assert sum(map(math.prod, tensors.values())) == counting.lora_count(small("gpt2", 1), 4, ["c_proj"])


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"model_type": "mamba"}, ["'mamba'", "llama, mistral, qwen2, qwen3, gemma2"]),
        (small("qwen3 moe", 4) | {"mlp_only_layers": [0]}, ["mlp_only_layers", "every layer"]),
        (small("qwen3 moe", 4) | {"decoder_sparse_step": 2}, ["decoder_sparse_step"]),
        (small("falcon", 2) | {"hidden_size": 65}, ["hidden_size 65 for 4 heads"]),
        (small("gpt2", 2) | {"add_cross_attention": True}, ["add_cross_attention"]),
    ],
)
def test_what_is_not_counted_is_said_in_one_sentence(config, words):
    with pytest.raises(LabError) as caught:
        model_configs.checked(config)
    text = str(caught.value)
    assert all(word in text for word in words) and "\n" not in text, text


def test_targets_are_refused_by_the_familys_names():
    for call in (counting.lora_count, counting.adapter_tensors):
        with pytest.raises(LabError, match="'q_proj': choose among qkv_proj, o_proj, gate_up_proj"):
            call(small("phi3", 2), 8, "q+v")
    with pytest.raises(LabError, match="PEFT has no DoRA for experts.*w1"):
        counting.dora_count(small("mixtral", 2), 8, ["q_proj", "w1", "w3"])
    with pytest.raises(LabError, match="an adapter on experts is not counted here: leave out gate"):
        counting.adapter_tensors(small("mixtral", 2), 8, ["q_proj", "gate"])
    with pytest.raises(LabError, match="an expert of this model is 64 x 64"):
        counting.lora_count(small("mixtral", 2), 65, ["w2"])
