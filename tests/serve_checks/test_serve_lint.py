"""Each check of `lab.py serve-check` finds its fault in a spoiled adapter, and nothing in a sound one."""

import json
import shutil

import pytest
import torch
from made_adapters import SETTINGS, WEIGHTS, base, copied, made, respun
from safetensors.torch import load_file

from labsupport.core.files import LabError
from labsupport.models import tiny_base
from labsupport.run_folders import base_of_run
from labsupport.serve_checks import adapter_folder, base_checks, lint


def ids(folder, **options) -> dict[str, list[str]]:
    """Rule -> the evidence for it, of all findings but two notes that every adapter here gets."""
    report = lint.lint(adapter_folder.opened(folder, **options))
    always = ("float32", "base-is-a-path")
    return {
        found.rule.id: [f"{one.where} {one.text}".strip() for one in found.evidence]
        for found in report.findings
        if found.rule.id not in always
    }


def first(tensors, side):
    return next(name for name in sorted(tensors) if f"lora_{side}" in name)


def test_a_sound_adapter_gets_notes_only(good):
    report = lint.lint(adapter_folder.opened(good))
    assert {found.rule.id for found in report.findings} == {"float32", "base-is-a-path"}
    assert report.clean and report.run.notes == []
    assert report.run.base_folder == tiny_base.FOLDER and report.run.rank == 4


# ---------------------------------------------------------------- the weights


def test_a_matrix_without_its_other_half(good, tmp_path):
    folder = respun(good, tmp_path / "a", lambda tensors: tensors.pop(first(tensors, "B")))
    assert ids(folder) == {"unpaired-matrix": ["model.layers.0.self_attn.q_proj lora_B is missing"]}


def test_matrices_that_were_saved_by_one_process_of_several(good, tmp_path):
    def scatter(tensors):
        tensors[first(tensors, "B")] = torch.empty(0)

    found = ids(respun(good, tmp_path / "a", scatter))
    assert found == {"no-matrix": ["model.layers.0.self_attn.q_proj lora_B has the shape [0]"]}


def test_settings_of_another_rank(good, tmp_path):
    found = ids(copied(good, tmp_path / "a", r=8))
    assert set(found) == {"rank-differs"}
    assert "A has 4 rows and B 4 columns, and the settings say rank 8" in found["rank-differs"][0]


def test_settings_of_other_targets(good, tmp_path):
    found = ids(copied(good, tmp_path / "a", target_modules=["q_proj", "k_proj"]))
    assert set(found) == {"not-targeted", "target-without-weights"}
    assert all("v_proj" in text for text in found["not-targeted"])
    assert all("k_proj" in text for text in found["target-without-weights"])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers(good, tmp_path, value):
    def spoil(tensors):
        tensors[first(tensors, "A")][0, 0] = value

    assert set(ids(respun(good, tmp_path / "a", spoil))) == {"not-finite"}


def test_an_adapter_that_was_never_trained(good, tmp_path):
    def zero(tensors):
        for name in tensors:
            if "lora_B" in name:
                tensors[name].zero_()

    assert "B is exactly 0 in all" in ids(respun(good, tmp_path / "a", zero))["never-trained"][0]

    def zero_one(tensors):
        tensors[first(tensors, "B")].zero_()

    assert ids(respun(good, tmp_path / "b", zero_one)) == {}


def test_bfloat16_gets_no_note_about_its_width(good, tmp_path):
    def narrow(tensors):
        for name in tensors:
            tensors[name] = tensors[name].bfloat16()

    report = lint.lint(adapter_folder.opened(respun(good, tmp_path / "a", narrow)))
    assert [found.rule.id for found in report.findings] == ["base-is-a-path"]


# ---------------------------------------------------------------- the server


def test_a_rank_above_the_servers_limit(good, tmp_path):
    folder = made(tmp_path / "a", r=24, lora_alpha=24)
    assert "rank is 24" in ids(folder)["rank-above-limit"][0]
    assert "--max-lora-rank 32" in ids(folder)["rank-above-limit"][0]
    assert ids(folder, limit=32) == {} and set(ids(good, limit=2)) == {"rank-above-limit"}


def test_a_rank_that_vllm_has_no_limit_for(good, tmp_path):
    assert "rank-beyond-vllm" in ids(copied(good, tmp_path / "a", r=513))


def test_the_highest_rank_of_a_pattern_counts_and_its_scale_is_told(tmp_path):
    folder = made(tmp_path / "a", rank_pattern={"v_proj": 24})
    found = ids(folder)
    assert set(found) == {"rank-above-limit", "scale-per-module"}
    assert "v_proj its scale is 0.333, and lora_alpha / r would be 2" in found["scale-per-module"][0]
    same = made(tmp_path / "b", rank_pattern={"v_proj": 8}, alpha_pattern={"v_proj": 16})
    assert ids(same) == {}


@pytest.mark.filterwarnings("ignore")  # PEFT warns of some of these as it saves them
@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"modules_to_save": ["lm_head"]}, "whole-modules"),
        ({"use_dora": True}, "dora"),
        ({"bias": "all"}, "bias"),
        ({"lora_bias": True}, "bias"),
        ({"use_rslora": True}, "rslora"),
        ({"target_modules": ["q_proj", "embed_tokens"]}, "embedding-lora"),
    ],
)
def test_what_peft_saves_and_vllm_refuses_or_takes_with_care(tmp_path, options, rule):
    assert rule in ids(made(tmp_path / "a", **options))


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"peft_type": "LOHA"}, "not-lora"),
        ({"trainable_token_indices": [5]}, "trainable-tokens"),
        ({"layer_replication": [[0, 1]]}, "unserved-settings"),
        ({"kasa_config": {"beta": 1}}, "unserved-settings"),
        ({"init_lora_weights": "pissa_niter_16"}, "changed-base"),
        ({"init_lora_weights": "olora"}, "changed-base"),
        ({"init_lora_weights": "CorDA"}, "changed-base"),
    ],
)
def test_settings_alone_that_keep_it_from_being_served(good, tmp_path, settings, rule):
    assert set(ids(copied(good, tmp_path / "a", **settings))) == {rule}


def test_beginnings_that_leave_the_base_alone_are_silent(good, tmp_path):
    assert ids(copied(good, tmp_path / "a", init_lora_weights="gaussian")) == {}
    assert ids(copied(good, tmp_path / "b", modules_to_save=["score"])) == {}


def test_a_whole_matrix_that_the_settings_do_not_name(good, tmp_path):
    def grow(tensors):
        tensors["base_model.model.model.embed_tokens.weight"] = torch.ones(4, 4)

    assert "embed_tokens" in ids(respun(good, tmp_path / "a", grow))["whole-modules"][0]


def test_names_that_hold_the_adapters_name(good, tmp_path):
    """As a state dict has them: PEFT would insert the name once more, and load nothing."""

    def rename(tensors):
        for name in list(tensors):
            tensors[name.replace(".weight", ".default.weight")] = tensors.pop(name)

    found = ids(respun(good, tmp_path / "a", rename))
    assert set(found) == {"tensor-names"} and "lora_A.default.weight" in found["tensor-names"][0]


@pytest.mark.filterwarnings("ignore")  # PEFT warns of tied weights
def test_the_bases_own_matrix_beside_an_adapted_head_is_passed_over(tmp_path):
    folder = made(tmp_path / "a", target_modules=["q_proj", "lm_head"])
    assert any(name.endswith("lm_head.base_layer.weight") for name in load_file(folder / WEIGHTS))
    assert set(ids(folder)) == {"embedding-lora"}


EXPERTS = "base_model.model.model.layers.0.mlp.experts"


def test_stacked_experts_have_the_rank_times_their_number(good, tmp_path):
    """As PEFT saves LoRA of target_parameters: rank 4, 32 experts."""

    def stack(tensors):
        for place in (EXPERTS, f"{EXPERTS}.base_layer"):
            tensors[f"{place}.lora_A.weight"] = torch.ones(128, 16)
            tensors[f"{place}.lora_B.weight"] = torch.ones(16, 128)

    folder = respun(good, tmp_path / "a", stack)
    assert {"rank-differs", "not-targeted", "foreign-layers", "rank-above-limit"} == set(ids(folder))
    parameters = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
    assert ids(copied(folder, tmp_path / "b", target_parameters=parameters)) == {}


def test_experts_one_by_one_are_not_foreign_where_the_model_stacks_them(good, tmp_path):
    def add(tensors):
        for name in (f"{EXPERTS}.0.gate_proj", EXPERTS.replace("experts", "gate")):
            tensors[f"{name}.lora_A.weight"] = torch.ones(4, 16)
            tensors[f"{name}.lora_B.weight"] = torch.ones(16, 4)

    folder = respun(good, tmp_path / "a", add)
    assert set(ids(folder)) == {"not-targeted"}
    targets = r".*\.(q_proj|v_proj|mlp\.gate|experts\.0\.gate_proj)"
    assert ids(copied(folder, tmp_path / "b", target_modules=targets)) == {}


def test_an_adapter_in_float8_is_read(good, tmp_path):
    def narrow(tensors):
        for name in tensors:
            tensors[name] = tensors[name].to(torch.float8_e4m3fn)

    assert ids(respun(good, tmp_path / "a", narrow)) == {}


# ---------------------------------------------------------------- the base


def test_how_the_base_is_named(good, tmp_path):
    lost = copied(good, tmp_path / "a", base_model_name_or_path="/home/somebody/models/base")
    assert set(ids(lost)) == {"base-not-found", "base-not-here"}
    assert set(ids(lost, base=str(tiny_base.FOLDER))) == {"base-not-found"}
    hub = copied(good, tmp_path / "b", base_model_name_or_path="nobody/no-such-model")
    assert set(ids(hub)) == {"base-not-here"}
    relative = copied(good, tmp_path / "d", base_model_name_or_path="data/tiny_base")
    assert ids(relative) == {}  # the note that it is a folder, which `ids` leaves out
    old = copied(good, tmp_path / "e", base_model_name_or_path="gpt2")  # a name of the hub, of before owners
    assert set(ids(old)) == {"base-not-here"}
    nameless = copied(good, tmp_path / "c", base_model_name_or_path=None)
    assert set(ids(nameless)) == {"base-not-named"}


def test_the_courses_copy_in_place_of_a_base_of_that_name_is_noted(good, tmp_path, monkeypatch):
    name = "HuggingFaceTB/SmolLM2-135M-Instruct"
    folder = copied(good, tmp_path / "a", base_model_name_or_path=name)
    opened = adapter_folder.opened(folder)
    assert opened.base_folder.name == name.split("/")[1].lower()
    assert f"stands in for {name}" in opened.notes[0]
    monkeypatch.setattr(base_of_run, "cached_folder", lambda name: tiny_base.FOLDER)
    opened = adapter_folder.opened(folder)
    assert opened.base_folder == tiny_base.FOLDER and opened.notes == []


@pytest.fixture(scope="module")
def wider(tmp_path_factory):
    """The config.json of a model of the same family and other width."""
    folder = tmp_path_factory.mktemp("wider")
    config = json.loads((tiny_base.FOLDER / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"hidden_size": config["hidden_size"] * 2}))
    return folder


def test_an_adapter_of_another_base(good, wider):
    found = ids(good, base=str(wider))
    assert set(found) == {"another-base", "base-named-otherwise"}
    assert found["another-base"][0].startswith("model.layers.0.self_attn.q_proj is made for a matrix of ")


@pytest.mark.parametrize(
    ("named", "told"),
    [
        ("another/model-of-that-size", "base-named-otherwise"),  # the folder may hold just that
        ("/elsewhere/Tiny-Base/", None),
        ("somebody/Tiny-Base", None),
        ("somebody/tiny-base@main", None),
        ("/cache/hub/models--somebody--tiny_base/snapshots/0a1b2c", None),
        ("somebody/tiny-base-unsloth-bnb-4bit", "four-bit-base"),
    ],
)
def test_a_base_of_another_name_than_the_adapters(good, tmp_path, named, told):
    found = ids(copied(good, tmp_path / "a", base_model_name_or_path=named), base=str(tiny_base.FOLDER))
    assert set(found) - {"base-not-found"} == ({told} if told else set())


def test_another_base_of_the_same_size_on_the_hub(good, tmp_path, monkeypatch):
    monkeypatch.setattr(base_of_run, "cached_folder", lambda name: tiny_base.FOLDER)
    folder = copied(good, tmp_path / "a", base_model_name_or_path="somebody/model-v0.1")
    assert set(ids(folder)) == set(ids(folder, base="elsewhere/model-v0.1")) == set()
    assert base_checks.plain(r"C:\cache\models--gpt2\snapshots\0a1b") == base_checks.plain("gpt2")
    assert base_checks.plain("/home/me@work/Llama-3.1-8B/") == base_checks.plain(
        "meta-llama/Meta-Llama-3.1-8B"
    )
    found = ids(folder, base="somebody/model-v0.3")
    assert "names somebody/model-v0.1, and it is served on somebody/model-v0.3" in found["base-differs"][0]


def test_layers_that_the_base_does_not_have(good, tmp_path):
    def rename(tensors):
        for name in list(tensors):
            tensors[name.replace("model.layers.0.", "model.blocks.0.")] = tensors.pop(name)

    found = ids(respun(good, tmp_path / "a", rename))
    assert set(found) == {"foreign-layers", "target-without-weights"}
    assert "model.blocks.0.self_attn.q_proj" in found["foreign-layers"][0]


def test_a_base_that_cannot_be_built_is_noted_and_the_rest_is_looked_at(good, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "no-such-family"}')
    report = lint.lint(adapter_folder.opened(good, base=str(tmp_path)))
    assert report.clean and "Layers were not compared" in " ".join(report.run.notes)


def test_a_base_in_four_bits_where_the_card_or_the_name_says_so(good, tmp_path):
    folder = copied(good, tmp_path / "a")
    card = folder / "README.md"
    card.write_text(card.read_text() + "\n- load_in_4bit: True\n")
    assert set(ids(folder)) == {"four-bit-base"}
    card.write_text("- load_in_4bit: False\n")
    assert ids(folder) == {}
    named = copied(good, tmp_path / "b", base_model_name_or_path="somebody/model-bnb-4bit")
    assert set(ids(named)) == {"four-bit-base", "base-not-here"}


# ---------------------------------------------------------------- the tokenizer


def saved_with(good, folder, change):
    """A copy with the base's tokenizer after `change`."""
    import copy

    tokenizer = copy.deepcopy(base()[1])
    change(tokenizer)
    copied(good, folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_tokenizers_that_are_not_the_bases(good, tmp_path):
    def add(tokenizer):
        tokenizer.add_tokens(["<order>"])

    found = ids(saved_with(good, tmp_path / "a", add))
    assert set(found) == {"vocabulary-differs"} and "the first: <order>" in found["vocabulary-differs"][0]

    def stop(tokenizer):
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(7)

    assert "eos-differs" in ids(saved_with(good, tmp_path / "b", stop))

    def speak(tokenizer):
        tokenizer.chat_template = "{{ messages[0]['content'] }}"

    spoken = saved_with(good, tmp_path / "c", speak)
    assert ids(spoken) == {"template-differs": ["the adapter has a chat template, the base another one"]}
    settings = json.loads((spoken / "tokenizer_config.json").read_text())
    settings["chat_template"] = (spoken / "chat_template.jinja").read_text()
    (spoken / "tokenizer_config.json").write_text(json.dumps(settings))
    (spoken / "chat_template.jinja").unlink()
    assert "write it into chat_template.jinja" in ids(spoken)["template-differs"][0]


def test_tokenizers_that_differ_without_harm(good, tmp_path):
    def pad(tokenizer):
        tokenizer.add_special_tokens({"pad_token": "[PAD]"})

    assert ids(saved_with(good, tmp_path / "a", pad)) == {}

    # Has a token that the adapter's lacks, and stops at the adapter's EOS, too.
    base_folder = tmp_path / "tiny_base"
    shutil.copytree(tiny_base.FOLDER, base_folder)

    def add(tokenizer):
        tokenizer.add_tokens(["<later>"])

    added = saved_with(good, tmp_path / "b", add)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(added / name, base_folder / name)
    assert ids(good, base=str(base_folder)) == {}

    def stop(tokenizer):
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(7)

    stops = saved_with(good, tmp_path / "c", stop)
    assert "eos-differs" in ids(stops, base=str(base_folder))
    (base_folder / "generation_config.json").write_text('{"eos_token_id": [2, 7]}')
    assert "eos-differs" not in ids(stops, base=str(base_folder))


def test_no_tokenizer_and_no_template(good, tmp_path):
    bare = made(tmp_path / "a", tokenizer=False)
    assert set(ids(bare)) == {"no-tokenizer"}
    mute = tmp_path / "tiny_base"
    shutil.copytree(tiny_base.FOLDER, mute)
    (mute / "chat_template.jinja").unlink()
    assert set(ids(bare, base=str(mute))) == {"no-tokenizer", "no-template"}

    def silence(tokenizer):
        tokenizer.chat_template = None

    apart = saved_with(good, tmp_path / "b", silence)
    (apart / "chat_template.jinja").unlink(missing_ok=True)
    assert "no-template" in ids(apart, base=str(mute))
    elsewhere = copied(apart, tmp_path / "c", base_model_name_or_path="nobody/no-such-model")
    assert set(ids(elsewhere)) == {"base-not-here"}  # whose template nobody has seen


# ---------------------------------------------------------------- bad input


def refused(folder, **options) -> str:
    with pytest.raises(LabError) as caught:
        adapter_folder.opened(folder, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_folders_that_hold_no_adapter(good, tmp_path):
    assert "There is no folder" in refused(tmp_path / "absent")
    assert "is a file" in refused(good / WEIGHTS)
    assert f"holds no {WEIGHTS}: give the adapter's folder. The folder good in it" in refused(good.parent)
    lone = copied(good, tmp_path / "a")
    (lone / SETTINGS).unlink()
    assert f"holds {WEIGHTS} without {SETTINGS}" in refused(lone)
    (lone / WEIGHTS).rename(lone / "adapter_model.bin")
    assert "a pickle, which is not read" in refused(lone)


def test_files_that_are_damaged(good, tmp_path):
    cut = copied(good, tmp_path / "a")
    whole = (cut / WEIGHTS).read_bytes()
    for content in (whole[: len(whole) // 2], whole[:5], b"", b"\xff" * 200):
        (cut / WEIGHTS).write_bytes(content)
        assert f"{WEIGHTS} is damaged" in refused(cut)
    torn = copied(good, tmp_path / "b")
    (torn / SETTINGS).write_text('{"peft_type": "LORA", "r": ')
    assert f"{SETTINGS} is not JSON" in refused(torn)
    assert "has r 0: it must be a positive number" in refused(copied(good, tmp_path / "c", r=0))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"rank_pattern": {"q_proj": "4"}}, "has rank_pattern 'q_proj': '4': it must be a positive number"),
        ({"alpha_pattern": {"q_proj": None}}, "has alpha_pattern 'q_proj': None: it must be"),
        ({"rank_pattern": {"q_proj(": 4}}, "has rank_pattern 'q_proj(', which is no regular expression"),
        ({"target_modules": "*.q_proj"}, "has target_modules '*.q_proj', which is no regular expression"),
    ],
)
def test_settings_that_peft_could_not_read(good, tmp_path, settings, said):
    assert said in refused(copied(good, tmp_path / "a", **settings))


def test_a_single_module_saved_whole_is_named_as_it_is(good, tmp_path):
    found = ids(copied(good, tmp_path / "a", modules_to_save="lm_head"))
    assert found["whole-modules"] == ["modules_to_save is lm_head"]


def test_a_base_that_was_asked_for_and_is_not_here(good):
    assert "--base nowhere/nothing: there is no model's folder" in refused(good, base="nowhere/nothing")
