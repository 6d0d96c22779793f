"""Memory, time and money of settings on a card, by the planner and the cost model."""

import pytest
from settings_runs import FIXTURES, findings_in, written

from labsupport.configs import model_configs
from labsupport.core.files import LabError
from labsupport.findings.check import Run
from labsupport.settings_checks import recipe
from labsupport.settings_checks.resource_checks import setup_of

SMALL = "model_name_or_path: HuggingFaceTB/SmolLM2-135M\nuse_peft: true\nlearning_rate: 1.0e-3\n"


def setup(text, folder, tokens=160, model=None):
    read = recipe.read(written(folder, text))
    run = Run(
        folder, "messages", recipe=read, model=model or read.get("model_name_or_path"), tokens=10, trained=4
    )
    return setup_of(run, [40, tokens, 80])


def test_what_does_not_fit_is_found_with_what_would():
    found, _ = findings_in(FIXTURES / "memory-does-not-fit.yaml", gpu="l4", resources=True)
    assert set(found) == {"memory-does-not-fit"}
    assert "GiB" in found["memory-does-not-fit"].evidence[0].text
    assert "lora" in found["memory-does-not-fit"].rule.fix


def test_hours_and_money_are_a_note():
    found, run = findings_in(FIXTURES / "time-and-money.yaml", gpu="l4", rate=0.8, resources=True)
    assert set(found) == {"time-and-money"} and found["time-and-money"].rule.severity == "note"
    assert "90 steps" in found["time-and-money"].evidence[0].text
    assert len(run.notes) == 1 and run.notes[0].startswith("Memory: qlora needs ")


def test_a_qlora_of_8b_fits_an_l4():
    found, run = findings_in(FIXTURES / "clean-qlora.yaml", rows=1000, tokens=500, gpu="l4", resources=True)
    assert found == {} and "L4" in run.notes[0]


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ({"rate": 1.0}, "no card was named"),
        ({"gpu": "l4", "model": "own/unheard-of-7b"}, "unheard-of-7b are not known here"),
    ],
)
def test_what_cannot_be_estimated_is_a_sentence(about, said):
    found, run = findings_in(FIXTURES / "clean-script.yaml", resources=True, **about)
    assert found == {} and len(run.notes) == 1 and said in run.notes[0]


def test_a_card_without_a_known_speed_has_a_plan_and_no_price(tmp_path):
    found, run = findings_in(written(tmp_path, SMALL), rows=400, gpu="l40s", rate=1.0, resources=True)
    assert set(found) == {"time-and-money"}
    found, run = findings_in(written(tmp_path, SMALL), rows=400, gpu="a40", rate=1.0, resources=True)
    assert found == {} and [note.split()[0].strip(":") for note in run.notes] == ["Memory", "Time"]


def test_without_a_tokenizer_rows_are_counted_by_their_characters():
    path = FIXTURES / "time-and-money.yaml"
    found, run = findings_in(path, tokens=0, gpu="l4", rate=0.8, resources=True)
    assert set(found) == {"time-and-money"}
    assert "4 characters a token" in run.notes[0] and run.notes[1].startswith("Memory: qlora needs ")


def test_half_a_script_is_not_planned(tmp_path):
    path = written(tmp_path, "learning_rate: 1.0e-4\n")
    _, run = findings_in(path, rows=400, gpu="l4", model="gpt2", resources=True)
    assert "do not say what is trained" in run.notes[0]


def test_a_card_that_does_not_exist_is_bad_input(tmp_path):
    with pytest.raises(LabError, match="no card"):
        findings_in(written(tmp_path, SMALL), gpu="l5", resources=True)


# ---------------------------------------------------------------- what is asked of the planner


def test_the_settings_become_a_setup(tmp_path):
    made = setup(
        SMALL + "lora_r: 8\nlora_target_modules: [q_proj, v_proj]\nload_in_4bit: true\n"
        "use_bnb_nested_quant: true\ndtype: bfloat16\nuse_dora: true\nper_device_train_batch_size: 3\n"
        "gradient_accumulation_steps: 5\ngradient_checkpointing: false\noptim: paged_adamw_8bit\n"
        "lora_dropout: 0.1\n",
        tmp_path,
    )
    assert (made.method, made.rank, made.targets) == ("qdora", 8, ("q_proj", "v_proj"))
    assert (made.batch, made.accumulation, made.length) == (3, 5, 160)
    assert (made.dtype, made.double_quantization, made.checkpointing) == ("bfloat16", True, False)
    assert (made.optimizer, made.dropout, made.supervised) == ("paged_adamw_8bit", 0.1, 0.4)
    assert made.padded and made.trainer == "sft"


def test_trls_own_script_loads_float32_and_a_script_of_ones_own_bfloat16(tmp_path):
    assert setup(SMALL, tmp_path).dtype == "float32"
    assert setup(SMALL + 'model_init_kwargs: {"dtype": bfloat16}\n', tmp_path).dtype == "bfloat16"
    assert setup("model: gpt2\nlora:\n  r: 8\n", tmp_path).dtype == "bfloat16"


def test_peft_s_own_targets_stand_in_for_none(tmp_path):
    assert setup(SMALL, tmp_path).targets == ("q_proj", "v_proj")


def test_packed_rows_are_as_long_as_max_length(tmp_path):
    packing = SMALL + "packing: true\nmax_length: 512\n"
    assert setup(packing, tmp_path).length == 512 and setup(packing, tmp_path).padded
    assert not setup(packing + "attn_implementation: flash_attention_2\n", tmp_path).padded


def test_a_folder_is_as_good_as_a_name(tmp_path):
    import json

    (tmp_path / "config.json").write_text(json.dumps(model_configs.find("smollm2-135m")))
    made = setup("use_peft: true\n", tmp_path, model=str(tmp_path))
    assert made.config["hidden_size"] == 576


@pytest.mark.parametrize(
    "line", ["optim: lomo\n", "load_in_8bit: true\n", "lora_r: 4096\n", "lora_modules_to_save: [lm_head]\n"]
)
def test_what_the_planner_does_not_know_is_said(line, tmp_path):
    with pytest.raises(LabError):
        setup(SMALL + line, tmp_path)
