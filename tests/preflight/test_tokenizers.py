"""Whose tokenizer and template: the model's own where it can be had, a stand-in that is named where not."""

import json

import pytest
from clean_rows import clean_rows
from preflight_typed import document, written

from labsupport.chat_formats import templates
from labsupport.core.files import LabError
from labsupport.models import base_model, hub
from labsupport.preflight import tokenizers

TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]


@pytest.fixture(autouse=True)
def no_hub(monkeypatch):
    """The hub does not answer; what was asked of it."""
    asked = []

    def fetch_tokenizer(name):
        asked.append(name)
        raise LabError(f"no model {name} could be fetched from the hub (no network).")

    monkeypatch.setattr(hub, "fetch_tokenizer", fetch_tokenizer)
    return asked


def test_without_a_model_it_is_the_courses_and_that_is_said(tokenizer):
    own, said = tokenizers.of_model(None)
    assert own.get_vocab() == tokenizer.get_vocab() and own.chat_template == tokenizer.chat_template
    assert base_model.BUNDLED in said and "--model" in said


@pytest.mark.parametrize("name", [base_model.BUNDLED, "smollm2-135m", "smollm2"])
def test_the_courses_model_by_its_name_or_how_that_begins(name, tokenizer, no_hub):
    own, said = tokenizers.of_model(name)
    assert (own.chat_template, said, no_hub) == (tokenizer.chat_template, "", [])


def test_a_folder_s_own(tokenizer, tmp_path, no_hub):
    templates.tokenizer_with(tokenizer, "qwen2.5").save_pretrained(tmp_path)
    own, said = tokenizers.of_model(str(tmp_path))
    assert own.chat_template == templates.load("qwen2.5").jinja and (said, no_hub) == ("", [])


def test_what_the_hub_has_is_fetched_by_the_courses_names_too(tokenizer, tmp_path, monkeypatch):
    asked = []
    templates.tokenizer_with(tokenizer, "qwen2.5").save_pretrained(tmp_path)
    monkeypatch.setattr(hub, "fetch_tokenizer", lambda name: asked.append(name) or tmp_path)
    for name in ("qwen2.5-7b-instruct", "own/model@v1"):
        assert tokenizers.of_model(name)[1] == ""
    assert asked == [hub.ON_THE_HUB["qwen2.5-7b-instruct"], "own/model@v1"]


@pytest.mark.parametrize(
    ("model", "template"),
    [
        ("meta-llama/Meta-Llama-3-8B-Instruct", "llama-3.1"),
        ("llama-3.1-8b", "llama-3.1"),
        ("unsloth/Qwen2.5-7B-Instruct-bnb-4bit", "qwen2.5"),
        ("Qwen/Qwen3-8B", "qwen3"),
        ("google/gemma-2-9b-it", "gemma-2"),
        ("mistralai/Mistral-7B-Instruct-v0.3", "mistral-v0.3"),
        ("HuggingFaceTB/SmolLM2-1.7B-Instruct", "chatml"),
    ],
)
def test_a_known_family_s_template_stands_in(model, template, no_hub):
    own, said = tokenizers.of_model(model)
    assert own.chat_template == templates.load(template).jinja
    assert model in said and template in said and len(no_hub) <= 1


@pytest.mark.parametrize("model", ["llama-3.1-8b", "google/gemma-2-9b-it"])
def test_a_stand_in_begins_a_text_once_as_the_real_one_does(model):
    own, _ = tokenizers.of_model(model)
    for ids in (own("Hi")["input_ids"], own.apply_chat_template(TURNS)["input_ids"]):
        assert ids[0] == own.bos_token_id and ids.count(own.bos_token_id) == 1


@pytest.mark.parametrize("model", ["Qwen/Qwen3-8B", "HuggingFaceTB/SmolLM2-1.7B-Instruct"])
def test_a_stand_in_adds_no_bos_where_the_real_one_has_none(model):
    own, _ = tokenizers.of_model(model)
    assert own.decode(own("Hi")["input_ids"]) == "Hi"


@pytest.mark.parametrize(
    "model", ["own/unheard-of", "meta-llama/Llama-3.1-8B", "Qwen/Qwen2.5-7B", "unheard-of", "a/b/c", ""]
)
def test_what_nobody_knows_is_refused_in_one_line(model):
    with pytest.raises(LabError) as error:
        tokenizers.of_model(model)
    assert f"--model {model!r}" in str(error.value) and "\n" not in str(error.value)


def test_a_broken_folder_is_refused_in_one_line(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(LabError) as error:
        tokenizers.of_model(str(tmp_path))
    assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)


def test_a_model_that_the_settings_name_goes_without_tokens_if_the_planner_knows_it(capsys, tmp_path):
    own, said = tokenizers.of_model("meta-llama/Llama-3.1-8B", of_settings=True)
    assert own is None and "Tokens were not looked at" in said
    with pytest.raises(LabError, match="model_name_or_path 'own/unheard-of'"):
        tokenizers.of_model("own/unheard-of", of_settings=True)
    data, settings = written(tmp_path / "rows.jsonl", clean_rows(120)), tmp_path / "recipe.json"
    named = {"model_name_or_path": "meta-llama/Llama-3.1-8B", "use_peft": True, "learning_rate": 2e-4}
    settings.write_text(json.dumps(named | {"gradient_accumulation_steps": 1}))
    found = document(capsys, data, "--config", settings)
    assert found["clean"] and found["rows_seen_token_by_token"] == 0 and said in found["notes"]
