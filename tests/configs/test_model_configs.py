"""The table of model shapes, and reading other people's config.json."""

import json
import subprocess
import sys

import pytest
from family_configs import SMALLEST as GOOD

from labsupport.configs import model_configs
from labsupport.core.files import LabError


def write(folder, content):
    path = folder / "config.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_importing_loads_no_torch():
    modules = "labsupport.configs.model_configs, labsupport.sizes.counting"
    code = f"import sys, {modules}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("name", model_configs.names())
def test_every_model_of_the_table_is_complete(name):
    config = model_configs.find(name)
    completed = model_configs.checked(config)
    assert completed.items() >= {k: v for k, v in config.items() if k != "notes"}.items()
    assert {"max_position_embeddings", "head_dim", "tie_word_embeddings"} <= set(completed)
    assert ("rope_parameters" in config) == (config["model_type"] != "gpt2")
    assert name == name.lower() and "/" in model_configs.hub_name(name)


def test_the_models_that_the_course_needs():
    wanted = "smollm2-135m smollm2-360m smollm2-1.7b llama-3.2-1b llama-3.2-3b llama-3.1-8b llama-3-70b"
    wanted += " llama-3.1-405b codellama-34b llama-2-7b llama-2-13b mistral-7b-v0.3 qwen2.5-0.5b"
    wanted += " qwen2.5-1.5b qwen2.5-7b qwen2.5-14b qwen3-0.6b qwen3-1.7b qwen3-4b qwen3-8b qwen3-14b"
    wanted += " qwen3-32b gemma-2-2b gemma-2-9b gemma-2-27b gemma-3-1b gemma-3-4b gemma-3-12b gemma-3-27b"
    wanted += " granite-3.3-2b granite-3.3-8b smollm3-3b tinyllama-1.1b mistral-7b-v0.1 mistral-7b-v0.2"
    wanted += " mistral-nemo-12b mistral-small-24b qwen2.5-3b qwen2.5-32b qwen2.5-72b"
    others = "phi-3-mini-4k phi-4 falcon-7b gpt2 mixtral-8x7b-v0.1 qwen3-30b-a3b"
    assert set(model_configs.llama_like()) == set(wanted.split())
    assert set(model_configs.names()) == {*wanted.split(), *others.split()}


def test_find_gives_a_copy_and_ignores_capitals():
    config = model_configs.find(" Llama-3.1-8B ")
    config["rope_parameters"]["rope_theta"] = config["hidden_size"] = 0
    assert model_configs.find("llama-3.1-8b")["hidden_size"] == 4096
    assert model_configs.find("llama-3.1-8b")["rope_parameters"]["rope_theta"] == 500000.0


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("mistral-7b", "mistral-7b-v0.3"),
        ("qwen2.5-8b-instruct", "qwen2.5-7b"),
        ("llama-31-8b", "llama-3.1-8b"),
    ],
)
def test_unknown_model_lists_the_nearest_first(name, nearest):
    with pytest.raises(LabError) as caught:
        model_configs.find(name)
    text = str(caught.value)
    assert f"{name!r}" in text and f"nearest first: {nearest}," in text
    assert f"Of the {len(model_configs.names())} known" in text and len(text) < 400
    for function in (model_configs.hub_name, model_configs.published_parameters):
        with pytest.raises(LabError):
            function(name)


def test_read_a_file_or_its_folder_and_fill_in_the_defaults(tmp_path):
    path = write(tmp_path, GOOD)
    config = model_configs.read(path)
    assert config == model_configs.read(tmp_path) == model_configs.read(str(path))
    assert (config["head_dim"], config["tie_word_embeddings"]) == (16, False)


@pytest.mark.parametrize("absent", [{}, {"num_key_value_heads": None}])
def test_old_llama_files_do_not_name_key_value_heads(tmp_path, absent):
    config = {k: v for k, v in GOOD.items() if k != "num_key_value_heads"} | absent
    assert model_configs.read(write(tmp_path, config))["num_key_value_heads"] == 4


def without(*keys):
    return {k: v for k, v in GOOD.items() if k not in keys}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (without("vocab_size"), ["lacks vocab_size"]),
        (without("hidden_size", "num_attention_heads"), ["lacks hidden_size, num_attention_heads"]),
        (without("num_key_value_heads") | {"model_type": "qwen2"}, ["lacks num_key_value_heads"]),
        (GOOD | {"model_type": "mamba"}, ["'mamba'", "llama, mistral, qwen2, qwen3, gemma2"]),
        (without("model_type"), ["no model_type", "llama"]),
        (GOOD | {"hidden_size": 64.5}, ["hidden_size is 64.5", "whole number"]),
        (GOOD | {"num_hidden_layers": 0}, ["num_hidden_layers is 0"]),
        (GOOD | {"head_dim": "64"}, ["head_dim is '64'"]),
        (GOOD | {"vocab_size": True}, ["vocab_size is True"]),
        (GOOD | {"num_key_value_heads": 3}, ["4 heads and 3 key-value heads"]),
        (GOOD | {"num_attention_heads": 6}, ["hidden_size 64 for 6 heads", "head_dim"]),
        ("[1, 2]", ["no JSON object"]),
        ("{not json", ["is not JSON"]),
    ],
)
def test_bad_files_get_one_clear_sentence(tmp_path, content, words):
    with pytest.raises(LabError) as caught:
        model_configs.read(write(tmp_path, content))
    text = str(caught.value)
    assert "config.json" in text and all(word in text for word in words), text
    assert "\n" not in text


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(LabError, match=r"Cannot read .*config\.json: No such file"):
        model_configs.read(tmp_path)
