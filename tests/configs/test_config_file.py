"""What is given as a config.json and is none, and the language model inside a larger one."""

import json
import os
import tempfile
from pathlib import Path

import pytest
from family_configs import SMALLEST as LLAMA
from hypothesis import given
from hypothesis import strategies as st

from labsupport.configs import config_file, model_configs
from labsupport.core.files import LabError


def problem(path) -> str:
    with pytest.raises(LabError) as caught:
        model_configs.read(path)
    text = str(caught.value)
    assert "\n" not in text and len(text) < 500
    return text


def written(folder, content, name="some.json"):
    path = folder / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ({}, "an empty JSON object"),
        ([], "no JSON object but []"),
        ([LLAMA], "no JSON object"),
        ("7", "no JSON object but 7"),
        ('"llama"', "no JSON object but 'llama'"),
        ("null", "no JSON object but None"),
        ("", "is not JSON"),
        ("model_type: llama\n", "is not JSON"),
        ("{'model_type': 'llama'}", "is not JSON"),
        ('{"a": ' * 100_000, "nested too deeply"),
        ("[" * 100_000, "nested too deeply"),
        ({"metadata": {"total_size": 1}, "weight_map": {}}, "the index of a checkpoint's weights"),
        ({"tokenizer_class": "LlamaTokenizer", "model_max_length": 10**30}, "a tokenizer_config.json"),
        ({"added_tokens_decoder": {}, "bos_token": "<s>"}, "a tokenizer_config.json"),
        ({"version": "1.0", "added_tokens": [], "model": {}}, "a tokenizer.json"),
        ({"image_processor_type": "SiglipImageProcessor"}, "a preprocessor_config.json"),
        ({"bits": 4, "group_size": 128, "desc_act": False}, "a quantize_config.json"),
        ({"dim": 4096, "n_layers": 32, "n_heads": 32}, "a params.json"),
        ({"do_sample": True, "temperature": 0.6, "eos_token_id": 2}, "a generation_config.json"),
        ({"_class_name": "UNet2DConditionModel"}, "a configuration of diffusers"),
        ({"zero_optimization": {"stage": 2}}, "a configuration of DeepSpeed"),
        ({"hello": 1}, "has no model_type"),
        ({"model_type": 3}, "model_type is 3"),
        ({"model_type": ["llama"]}, "model_type is ['llama']"),
        (b"GGUF\x03\x00\x00\x00" + b"\x00" * 20, "a GGUF file of weights"),
        (b'\x10\x00\x00\x00\x00\x00\x00\x00{"a":{"dtype":', "a safetensors file of weights"),
        (b"PK\x03\x04" + b"\x00" * 20, "a zip file"),
        (b"\xff\xfe{\x00}\x00", "not UTF-8 text"),
    ],
)
def test_what_is_no_config_json_is_named_for_what_it_is(tmp_path, content, what):
    text = problem(written(tmp_path, content))
    assert what in text and "some.json" in text
    assert "config.json, whose model_type names" in text or "it must be a name" in text or "UTF-8" in text


def test_an_adapters_configuration_names_the_base_model(tmp_path):
    adapter = {"peft_type": "LORA", "base_model_name_or_path": "meta-llama/Llama-3.1-8B", "r": 16}
    text = problem(written(tmp_path, adapter, "adapter_config.json"))
    assert "adapter_config.json of an adapter" in text and "'meta-llama/Llama-3.1-8B'" in text
    assert problem(tmp_path) == text  # the folder that holds nothing else


def test_devices_folders_and_files_too_large_are_no_config(tmp_path):
    assert "No such file" in problem(tmp_path / "nothing")
    assert "config.json: No such file" in problem(tmp_path)
    if os.name == "posix":
        assert "/dev/zero is no file" in problem("/dev/zero")
        assert "name too long" in problem("x" * 300)
    path = tmp_path / "large.json"
    with path.open("wb") as file:
        file.truncate(config_file.MOST_BYTES + 1)
    assert "67 MB" in problem(path)


@pytest.mark.skipif(os.name != "posix", reason="named pipes")
def test_a_pipe_is_read(tmp_path):
    import threading

    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=(json.dumps(LLAMA),))
    writer.start()
    assert model_configs.read(pipe)["hidden_size"] == 64
    writer.join()


def test_a_byte_order_mark_is_no_part_of_it(tmp_path):
    assert (
        model_configs.read(written(tmp_path, b"\xef\xbb\xbf" + json.dumps(LLAMA).encode()))["vocab_size"]
        == 100
    )


@pytest.mark.parametrize("key", config_file.LANGUAGE_PARTS)
def test_of_a_multimodal_model_the_language_model_is_taken_and_that_is_said(tmp_path, key):
    whole = {
        "model_type": "llava",
        key: LLAMA,
        "vision_config": {"hidden_size": 1024},
        "tie_word_embeddings": True,
    }
    config = model_configs.read(written(tmp_path, whole))
    (note,) = config.pop("notes")
    assert "language model alone" in note and "'llava'" in note
    assert config == model_configs.checked(LLAMA | {"tie_word_embeddings": True})


def test_faults_inside_a_part_name_the_part(tmp_path):
    path = written(tmp_path, {"model_type": "llava", "text_config": LLAMA | {"vocab_size": "many"}})
    assert "some.json, text_config: vocab_size is 'many'" in problem(path)
    path = written(tmp_path, {"model_type": "mllama", "text_config": {"model_type": "mllama_text_model"}})
    assert "text_config is of the architecture 'mllama_text_model'" in problem(path)


def test_a_part_without_a_type_is_no_language_model():
    with pytest.raises(LabError, match="of the architecture 'clip'"):
        model_configs.checked({"model_type": "clip", "text_config": {"hidden_size": 512}})


@given(
    st.one_of(st.binary(), st.text().map(str.encode), st.binary().map(lambda tail: b'{"model_type": ' + tail))
)
def test_any_bytes_are_one_line(content):
    with tempfile.TemporaryDirectory() as folder:
        assert "some.json" in problem(written(Path(folder), content))
