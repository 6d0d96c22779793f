"""Models by the names that people write: which shape is meant, and which are refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labsupport.configs import model_configs, model_names, quantized
from labsupport.core.files import LabError


@pytest.mark.parametrize(
    ("written", "key"),
    [
        ("llama-3.1-8b", "llama-3.1-8b"),
        (" Llama-3.1-8B ", "llama-3.1-8b"),
        ("Llama 3.1 8B", "llama-3.1-8b"),
        ("meta-llama/Llama-3.1-8B-Instruct", "llama-3.1-8b"),
        ("meta-llama/Meta-Llama-3.1-8B", "llama-3.1-8b"),
        ("unsloth/Llama-3.2-1B-Instruct", "llama-3.2-1b"),
        ("meta-llama/Llama-2-7b-chat-hf", "llama-2-7b"),
        ("meta-llama/Llama-3.3-70B-Instruct", "llama-3-70b"),
        ("codellama/CodeLlama-34b-Instruct-hf", "codellama-34b"),
        ("mistralai/Mistral-7B-Instruct-v0.3", "mistral-7b-v0.3"),
        ("mistralai/Mistral-7B-v0.1", "mistral-7b-v0.1"),
        ("mistralai/Mistral-Nemo-Instruct-2407", "mistral-nemo-12b"),
        ("mistralai/Mistral-Small-24B-Instruct-2501", "mistral-small-24b"),
        ("Qwen/Qwen2.5-7B", "qwen2.5-7b"),
        ("https://huggingface.co/Qwen/Qwen2.5-7B-Instruct/", "qwen2.5-7b"),
        ("Qwen/Qwen2.5-Coder-7B-Instruct", "qwen2.5-7b"),
        ("Qwen/Qwen3-8B-Base", "qwen3-8b"),
        ("google/gemma-2-9b-it", "gemma-2-9b"),
        ("google/gemma-3-4b-it", "gemma-3-4b"),
        ("microsoft/phi-4", "phi-4"),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "smollm2-135m"),
        ("TinyLlama/TinyLlama-1.1B-Chat-v1.0", "tinyllama-1.1b"),
        ("unsloth/Llama-3.1-8B-Instruct-bnb-4bit", "llama-3.1-8b"),
    ],
)
def test_the_shape_behind_a_name(written, key):
    assert model_configs.key_of(written) == key
    assert model_configs.hub_name(written) == model_configs.hub_name(key)
    shape = {"hidden_size", "num_hidden_layers", "intermediate_size", "vocab_size"}
    found, table = model_configs.find(written), model_configs.find(key)
    assert {name: found[name] for name in shape} == {name: table[name] for name in shape}


def test_no_two_models_answer_to_one_name():
    names = []
    for key in model_configs.names():
        entry = model_configs._entry(key)
        names += {model_names.shape_of(name) for name in (key, entry["hub"], *entry.get("also", ()))}
    assert len(names) == len(set(names))


def test_a_sibling_keeps_its_own_length():
    assert model_configs.find("Qwen/Qwen3-4B")["max_position_embeddings"] == 40960
    assert model_configs.find("Qwen/Qwen3-4B-Instruct-2507")["max_position_embeddings"] == 262144


def test_what_somebody_else_publishes_is_said_to_be_taken_for_a_known_shape():
    (note,) = model_configs.find("somebody/llama-3.1-8b")["notes"]
    assert "'somebody/llama-3.1-8b'" in note and "shape of meta-llama/Llama-3.1-8B" in note
    for own in ("llama-3.1-8b", "meta-llama/Llama-3.1-8B", "https://huggingface.co/meta-llama/Llama-3.1-8B"):
        assert "notes" not in model_configs.find(own)


def test_bitsandbytes_4_bits_come_with_their_quantization_config():
    config = model_configs.find("unsloth/mistral-7b-instruct-v0.3-bnb-4bit")
    assert quantized.four_bit(config) == quantized.FourBit(double=True, compute="bfloat16")
    assert "quantization_config" not in model_configs.find("mistralai/Mistral-7B-v0.3")


@pytest.mark.parametrize(
    ("written", "what"),
    [
        ("TheBloke/Llama-2-7B-Chat-GPTQ", "GPTQ"),
        ("Qwen/Qwen2.5-7B-Instruct-AWQ", "AWQ"),
        ("unsloth/Llama-3.2-1B-Instruct-GGUF", "llama.cpp"),
        ("RedHatAI/Meta-Llama-3.1-8B-Instruct-FP8-dynamic", "FP8"),
        ("RedHatAI/Meta-Llama-3.1-8B-Instruct-quantized.w4a16", "W4A16"),
        ("Qwen/Qwen2.5-7B-Instruct-GPTQ-Int4", "GPTQ"),
        ("mlx-community/Llama-3.2-1B-Instruct-4bit", "another format"),
        ("unsloth/Llama-3.2-1B-Instruct-unsloth-bnb-4bit", "Unsloth's dynamic"),
        ("someone/Llama-3.2-1B-bnb-8bit", "bitsandbytes' 8 bits"),
    ],
)
def test_other_quantised_weights_are_refused_by_name(written, what):
    with pytest.raises(LabError) as caught:
        model_configs.find(written)
    text = str(caught.value)
    assert what in text and repr(written) in text and "--method qlora" in text and "\n" not in text


@given(st.text())
def test_any_text_is_a_model_or_one_line(written):
    try:
        model_configs.find(written)
    except LabError as error:
        assert "\n" not in str(error)
