"""Settings that are wrong by themselves, or with the data, the model or the card."""

import copy
from pathlib import Path

import pytest
from settings_runs import FIXTURES, findings_in, written

from labsupport.findings.check import Run
from labsupport.settings_checks import recipe_rules
from labsupport.settings_checks.recipe import Recipe
from labsupport.settings_checks.recipe_checks import refused

# What a rule needs besides its settings.
ABOUT = {
    "completion-only-loss-ignored": {"form": "messages"},
    "assistant-only-loss-refused": {"form": "text", "raw": {"text": "..."}},
    "text-field-missing": {"form": "text", "raw": {"body": "..."}},
    "longer-than-context": {"tokens": 9000},
    "no-bf16-on-card": {"gpu": "t4"},
    "evaluation-never-runs": {"eval": FIXTURES / "clean-course.yaml"},
    "batch-large": {"rows": 4000},
}
CLEAN = {
    "clean-course": {"rows": 512},
    "clean-qlora": {"rows": 9209, "tokens": 300},
    "clean-script": {},
}


@pytest.mark.parametrize("rule", [rule.id for rule in recipe_rules.RULES])
def test_a_fixture_triggers_its_rule_and_no_other(rule):
    found, _ = findings_in(FIXTURES / f"{rule}.yaml", **ABOUT.get(rule, {}))
    assert set(found) == {rule}


@pytest.mark.parametrize("name", CLEAN)
def test_published_recipes_trigger_nothing(name):
    assert findings_in(FIXTURES / f"{name}.yaml", **CLEAN[name])[0] == {}


def test_the_course_recipe_is_the_one_that_the_course_trains_with():
    from labsupport.core import profiles
    from labsupport.settings_checks.recipe import read

    clean, profile = read(FIXTURES / "clean-course.yaml"), profiles.PROFILES["cpu"]
    assert clean.get("learning_rate") == profile.learning_rate
    assert clean.batch == profile.batch_size * profile.accumulation
    assert clean.get("max_length") == profile.max_length


# ---------------------------------------------------------------- bounds

LORA = {
    "model_name_or_path": "meta-llama/Llama-3.1-8B",
    "use_peft": True,
    "learning_rate": 2e-4,
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 2,
}


def ids(given=None, drop=(), **about) -> set[str]:
    """The rules that LORA's settings trigger with some changed."""
    settings = {name: value for name, value in (LORA | (given or {})).items() if name not in drop}
    about = {"rows": 200} | about
    return set(findings_in(Recipe(FIXTURES / "made.yaml", settings), **about)[0])


def severity(given, rule, **about) -> str:
    """How severe a finding is."""
    return findings_in(Recipe(FIXTURES / "made.yaml", LORA | given), rows=200, **about)[0][rule].rule.severity


def test_a_lora_rate_is_judged_by_the_size_of_the_model():
    small = {"model_name_or_path": "HuggingFaceTB/SmolLM2-360M"}
    assert ids({"learning_rate": 2e-3}) == {"learning-rate-high"}
    assert ids({"learning_rate": 2e-3} | small) == set()
    assert ids({"learning_rate": 2e-3}, drop=["model_name_or_path"]) == set()
    assert ids({"learning_rate": 2e-3, "model_name_or_path": "own/Thing-13B-v2"}) == {"learning-rate-high"}


@pytest.mark.parametrize("rate", [5e-5, 1e-4, 5e-4, 1e-3])
def test_rates_of_published_lora_runs_pass(rate):
    assert ids({"learning_rate": rate}) == set()


def test_a_full_fine_tune_is_not_judged_as_lora():
    full = {"use_peft": False}
    assert ids(full | {"learning_rate": 2e-5}) == set()
    assert ids(full | {"learning_rate": 2e-4}) == {"learning-rate-high"}
    handbook = {"model_name_or_path": "HuggingFaceTB/SmolLM2-1.7B", "learning_rate": 3e-4}
    assert ids(full | handbook) == set()


def test_trls_default_rate_is_too_low_for_lora_but_not_known_to_be_so_for_half_a_script():
    assert ids(drop=["learning_rate"]) == {"learning-rate-low"}
    assert ids(drop=["learning_rate", "use_peft", "model_name_or_path"]) == set()


@pytest.mark.parametrize(
    ("rank", "alpha", "found"),
    [(8, 8, False), (64, 16, False), (256, 32, False), (4, 32, False), (64, 1, True), (16, 128, True)],
)
def test_alpha_is_judged_beside_the_rank(rank, alpha, found):
    assert ids({"lora_r": rank, "lora_alpha": alpha}) == ({"alpha-unusual"} if found else set())


def test_packed_rows_are_fewer_steps():
    rows = {"rows": 600, "tokens": 100}
    batch = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 4}
    assert ids(batch, **rows) == set()
    assert ids(batch | {"packing": True, "max_length": 4096}, **rows) == {"few-steps"}


def test_max_steps_decides_over_the_epochs():
    assert ids({"max_steps": 60, "num_train_epochs": 3}, rows=4000) == {"part-of-the-data"}
    assert ids({"max_steps": 2000}) == {"many-epochs"}


def test_warmup_below_one_is_a_share_and_above_it_steps():
    assert ids({"warmup_steps": 0.5}) == {"warmup-long"}
    assert ids({"warmup_steps": 5}) == set()
    assert ids({"warmup_steps": 500}) == {"warmup-long"}


def test_a_run_on_several_cards_has_their_rows_in_a_step():
    assert "batch-large" in ids({"num_processes": 32}, rows=20_000)


# ---------------------------------------------------------------- together


@pytest.mark.parametrize(
    "given",
    [
        {"fp16": True, "bf16": True},
        {"load_in_4bit": True, "load_in_8bit": True, "dtype": "bfloat16"},
        {"load_in_4bit": True, "dtype": "bfloat16", "use_peft": False, "learning_rate": 2e-5},
        {"packing": True, "max_length": None},
        {"padding_free": True},
        {"lora_target_modules": ["q_proj", "lm_head"]},
        {"load_best_model_at_end": True, "eval_strategy": "steps", "eval_steps": 30, "save_steps": 40},
    ],
)
def test_what_the_libraries_refuse_is_found(given):
    assert ids(given, eval=FIXTURES / "made.jsonl") - {"evaluation-never-runs"} == {"settings-refused"}


def test_an_end_token_that_the_model_does_not_have():
    run = Run(Path("rows.jsonl"), "text", recipe=Recipe(Path("recipe.yaml"), {"eos_token": "<|no_such|>"}))
    assert list(refused(run)) == []  # of a model that is not known
    run.vocabulary = {"<|end|>": 0}
    assert list(refused(run)) == ["eos_token <|no_such|> is no token of the tokenizer"]
    run.vocabulary["<|no_such|>"] = 1
    assert list(refused(run)) == []


def test_the_best_model_is_loaded_where_evaluation_and_saving_agree():
    given = {"load_best_model_at_end": True, "eval_strategy": "steps", "eval_steps": 20, "save_steps": 40}
    assert ids(given, eval=FIXTURES / "made.jsonl") == set()


def test_targets_are_looked_for_in_the_model():
    assert ids({"lora_target_modules": ["self_attn.q_proj", "embed_tokens"]}) == set()
    assert ids({"lora_target_modules": r".*self_attn\.[qv]_proj"}) == set()
    assert ids({"lora_target_modules": "q_proj,v_proj"}) == {"target-not-in-model"}
    assert ids({"lora_target_modules": ["c_attn"], "model_name_or_path": "gpt2"}) == set()
    assert ids({"lora_target_modules": ["anything"], "model_name_or_path": "own/unheard-of-7b"}) == set()


def test_four_bits_as_trls_own_script_loads_them_are_computed_in_the_models_dtype():
    assert ids({"load_in_4bit": True}) == {"four-bit-not-qlora"}  # float32 is trl's default
    assert ids({"load_in_4bit": True, "dtype": "bfloat16"}) == set()
    assert ids({"load_in_4bit": True, "dtype": "bfloat16", "bnb_4bit_quant_type": "fp4"}) == {
        "four-bit-not-qlora"
    }


def test_fp16_is_right_on_a_card_without_bfloat16():
    given = {"fp16": True, "model_name_or_path": "HuggingFaceTB/SmolLM2-360M", "dtype": "float16"}
    assert ids(given, gpu="t4") == set()
    assert ids(given) == ids(given, gpu="l4") == {"fp16-for-bf16-model"}
    assert severity(given, "fp16-for-bf16-model") == "note"  # who knows which card it will be
    assert severity(given, "fp16-for-bf16-model", gpu="l4") == "warning"


def test_an_evaluation_file_that_is_on_the_hub_is_not_missed():
    assert ids({"eval_strategy": "epoch"}) == {"no-evaluation-file"}
    assert ids({"eval_strategy": "epoch", "dataset_test_split": "test"}) == set()


def test_assistant_only_loss_needs_a_template_that_trl_knows(tokenizer, tmp_path):
    given = {"assistant_only_loss": True}
    assert ids(given, form="messages", tokenizer=tokenizer) == {"assistant-only-loss-refused"}
    marked = written(
        tmp_path,
        "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}"
        "{% endgeneration %}{% else %}{{ m.content }}{% endif %}{% endfor %}",
        "marked.jinja",
    )
    with_path = given | {"chat_template_path": str(marked)}
    assert ids(with_path, form="messages", tokenizer=tokenizer) == set()
    known = copy.deepcopy(tokenizer)
    known.chat_template = trl_template("qwen2_5")
    assert ids(given, form="messages", tokenizer=known) == set()


def trl_template(name: str) -> str:
    """One of the templates that TRL has a training version of."""
    from importlib.resources import files

    return (files("trl") / "chat_templates" / f"{name}.jinja").read_text("utf-8")


def test_what_a_handbook_recipe_of_2024_needs_is_its_renamed_arguments(tmp_path):
    path = written(
        tmp_path,
        "model_name_or_path: mistralai/Mistral-7B-v0.1\ntorch_dtype: bfloat16\nload_in_4bit: true\n"
        "use_peft: true\nlora_r: 16\nlora_alpha: 16\nlora_target_modules:\n- q_proj\n- down_proj\n"
        "chat_template: x\ndataset_mixture:\n  datasets: []\nbf16: true\neval_strategy: epoch\n"
        "gradient_accumulation_steps: 2\ngradient_checkpointing: true\nlearning_rate: 2.0e-04\n"
        "max_seq_length: 2048\nmax_steps: -1\noverwrite_output_dir: true\nsave_strategy: 'steps'\n"
        "per_device_train_batch_size: 4\nwarmup_ratio: 0.1\nreport_to:\n- tensorboard\n",
    )
    found, _ = findings_in(path, rows=2000)
    assert set(found) == {"outdated-argument", "deprecated-argument", "no-evaluation-file"}
    assert found["outdated-argument"].count == 4
