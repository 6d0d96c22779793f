"""Settings as files have them: TRL's, and those of people's own scripts."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from settings_runs import findings_in, written

from labsupport.core.files import LabError
from labsupport.settings_checks import recipe, recipe_names


def of(folder, text, name="recipe.yaml") -> recipe.Recipe:
    return recipe.read(written(folder, text, name))


# ---------------------------------------------------------------- what is read


def test_what_is_not_given_is_the_librarys_default(tmp_path):
    from trl import ModelConfig, SFTConfig

    read = of(tmp_path, "lora_r: 8\n")
    assert read.given == {"lora_r": 8}
    assert read.get("lora_alpha") == ModelConfig().lora_alpha
    config = SFTConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, activation_checkpointing=True)
    assert read.get("max_length") == config.max_length
    assert read.get("no_such_setting") is None


@pytest.mark.parametrize("text", ["2e-4", "'0.0002'", "2.0e-4", "0.0002"])
def test_a_rate_is_read_as_trls_parser_reads_it(text, tmp_path):
    from trl import SFTConfig, TrlParser

    rest = "use_cpu: true\nbf16: false\nactivation_checkpointing: true\n"
    path = written(tmp_path, f"learning_rate: {text}\noutput_dir: {tmp_path}\n{rest}")
    (trls,) = TrlParser((SFTConfig,)).parse_args_and_config(["--config", str(path)])
    ours = recipe.read(path)
    assert ours.get("learning_rate") == trls.learning_rate == 2e-4
    assert bool(ours.as_text) == ("." not in text or "'" in text)


def test_sections_are_read_with_peft_s_and_bitsandbytes_defaults(tmp_path):
    text = "peft:\n  r: 32\n  target_modules: [q_proj]\nquantization:\n  load_in_4bit: true\n"
    read = of(tmp_path, text + "training_args:\n  num_train_epochs: 2\nmodel:\n  name: gpt2\n")
    assert (read.get("lora_r"), read.get("lora_alpha"), read.get("lora_dropout")) == (32, 8, 0.0)
    assert (read.get("bnb_4bit_quant_type"), read.compute_dtype) == ("fp4", "float32")
    assert (read.get("num_train_epochs"), read.get("model_name_or_path")) == (2.0, "gpt2")
    assert (read.method, read.of_trl) == ("lora", False)


def test_names_of_scripts_that_people_copy(tmp_path):
    read = of(tmp_path, "use_4bit: true\nuse_nested_quant: false\nlora_rank: 64\nsave_steps: 0\n")
    assert read.four_bit and read.get("lora_r") == 64 and not read.of_trl


def test_loraconfigs_own_names_at_the_top_mean_the_same(tmp_path):
    read = of(tmp_path, '{"r": 4, "lora_alpha": 8, "target_modules": "all-linear"}', "recipe.json")
    assert read.get("lora_r") == 4 and read.get("lora_target_modules") == "all-linear"
    assert read.method == "lora" and not read.of_trl


def test_a_section_that_is_turned_off_is_no_lora(tmp_path):
    assert of(tmp_path, "lora:\n  enabled: false\n  r: 8\nmodel: gpt2\n").method == "full"


def test_arguments_of_accelerate_and_the_environment_are_left_to_trl(tmp_path):
    read = of(tmp_path, "env:\n  TOKENIZERS_PARALLELISM: 'false'\nnum_processes: 2\n")
    assert read.of_trl and read.batch == 2 * read.get("per_device_train_batch_size")


# ---------------------------------------------------------------- old names


@pytest.mark.parametrize("old", recipe_names.RENAMED)
def test_the_renamed_arguments_are_gone_and_the_new_ones_there(old):
    new, advice = recipe_names.RENAMED[old]
    assert old not in recipe_names.of_trl()
    assert new in recipe_names.of_trl() if new else advice


@pytest.mark.parametrize("old", recipe_names.DEPRECATED)
def test_the_deprecated_arguments_are_still_taken(old):
    assert old in recipe_names.of_trl()


def test_an_old_name_keeps_its_meaning(tmp_path):
    read = of(tmp_path, "max_seq_length: 2048\nwarmup_ratio: 0.03\ngroup_by_length: true\nno_cuda: true\n")
    assert read.given == {
        "max_length": 2048,
        "warmup_steps": 0.03,
        "train_sampling_strategy": "group_by_length",
        "use_cpu": True,
    }
    assert [old for old, _ in read.outdated] == [
        "max_seq_length",
        "warmup_ratio",
        "group_by_length",
        "no_cuda",
    ]


def test_a_switch_that_was_off_stays_off(tmp_path):
    assert of(tmp_path, "group_by_length: false\n").get("train_sampling_strategy") == "random"


def test_an_old_value_is_read_as_todays(tmp_path):
    read = of(tmp_path, "packing_strategy: ffd\n")
    assert read.get("packing_strategy") == "bfd" and read.outdated == [("packing_strategy: ffd", "bfd")]


def test_a_value_that_is_deprecated_and_another_behaviour_keeps_it(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("truncation_mode: keep_end\n")
    found = recipe.read(path)
    assert found.get("truncation_mode") == "keep_end"
    assert "a larger max_length" in dict(found.deprecated)["truncation_mode: keep_end"]


def test_checkpointing_goes_by_either_name(tmp_path):
    assert of(tmp_path, "seed: 1\n").checkpointing
    assert not of(tmp_path, "gradient_checkpointing: false\n").checkpointing
    assert not of(tmp_path, "activation_checkpointing: false\n").checkpointing


# ---------------------------------------------------------------- what is wrong


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("# nothing\n", "is empty"),
        ("- 1\n- 2\n", "not settings"),
        ("just words", "not settings"),
        ("adapter: qlora\nsequence_len: 4096\n", "holds Axolotl's settings (adapter, sequence_len)"),
        ("stage: sft\nfinetuning_type: lora\n", "holds LLaMA-Factory's settings"),
        ("a: b: c\n", "line 1 is not YAML"),
        ("seed: [1\n", "is not YAML"),
        ("7: 8\n", "no name"),
        ("seed: 1\nmax_length: 2\nseed: 3\n", "sets seed twice"),
        ("lora:\n  r: 1\n  r: 2\n", "sets r twice"),
        (
            "learningrate: 1.0e-4\n",
            "'learningrate', which TRL 1.16 does not know. The nearest that it knows: ",
        ),
        ("lora:\n  ranks: 8\n", "'ranks'"),
        ("learning_rate: fast\n", "learning_rate is 'fast'"),
        ("learning_rate: -0.1\n", "above 0"),
        ("learning_rate: 0\n", "above 0"),
        ("learning_rate: .nan\n", "nan"),
        ("learning_rate:\n", "learning_rate is empty"),
        ("learning_rate: true\n", "True"),
        ("num_train_epochs: .inf\n", "inf"),
        ("lora_r: 0\n", "at least 1"),
        ("lora_r: 8.5\n", "whole number"),
        ("lora_dropout: 1.5\n", "at most 1"),
        ("per_device_train_batch_size: 0\n", "at least 1"),
        ("packing: perhaps\n", "true or false"),
        ("lr_scheduler_type: cosin\n", "The nearest: cosine, "),
        ("optim: [adamw_torch]\n", "none of its values"),
        ("output_dir: [a, b]\n", "one value"),
        ("lora_target_modules: []\n", "a name or a list of names"),
        ("max_steps: -5\n", "at least 1"),
        ("dtype: [1]\n", "dtype"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_with_the_file(text, said, tmp_path):
    with pytest.raises(LabError) as error:
        of(tmp_path, text)
    assert said in str(error.value) and "recipe.yaml" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(LabError, match="absent.yaml"):
        recipe.read(tmp_path / "absent.yaml")
    with pytest.raises(LabError, match="is a folder"):
        recipe.read(tmp_path)


def test_broken_json_is_said_with_its_line(tmp_path):
    with pytest.raises(LabError, match="line 2 is not JSON"):
        of(tmp_path, '{"seed": 1,\n oops}', "recipe.json")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
NAMES = st.sampled_from(
    ["learning_rate", "max_length", "lora", "model", "lora_r", "optim", "packing", "dataset_kwargs", "dtype"]
    + [
        "report_to",
        "lora_target_modules",
        "model_name_or_path",
        "num_processes",
        "lora_alpha",
        "warmup_ratio",
        "max_steps",
        "quantization",
        "group_by_length",
    ]
    + [
        "eval_strategy",
        "packing_strategy",
        "model_init_kwargs",
        "training",
        "use_peft",
        "datasets",
        "env",
        "eval_steps",
    ]
    + ["load_best_model_at_end", "dataset_text_field", "target_modules", "bnb_4bit_compute_dtype"]
)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(NAMES, VALUES, min_size=1, max_size=4))
def test_whatever_stands_in_a_file_is_read_and_judged_or_refused_in_one_line(tmp_path, content):
    import yaml

    path = written(tmp_path, yaml.safe_dump(content, allow_unicode=True))
    try:
        findings_in(path, rows=3)
    except LabError as error:
        assert "\n" not in str(error)
