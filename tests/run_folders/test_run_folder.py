"""A run folder opened: what is found where, and one line for what cannot be read."""

import json
import shutil

import pytest
import torch
from made_runs import adapter, conversation, log_of, made, snapshot, ticket_rows, with_ids
from safetensors.torch import save_file

from labsupport.core.files import LabError
from labsupport.run_folders.run_folder import TOKENS, opened


def refused(*arguments, **options) -> str:
    with pytest.raises(LabError) as error:
        opened(*arguments, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_a_trainer_wrote_is_found(tmp_path):
    rows, asked = ticket_rows(12), with_ids(ticket_rows(3, 50))
    said = [{"id": "e2", "reply": "x"}, {"id": "e0", "reply": "y"}]
    run = opened(
        made(
            tmp_path / "run",
            arguments={"learning_rate": 3e-4, "max_length": 77},
            train=rows,
            asked=asked,
            replies=said,
        )
    )
    assert (run.arguments["learning_rate"], run.recipe["max_length"]) == (3e-4, 77)
    assert len(run.log) == 20 and run.train_rows == rows and run.adapter_config["r"] == 4
    assert [(record.raw["id"], text) for record, text in run.pairs()] == [("e2", "x"), ("e0", "y")]
    assert run.weights().keys() == adapter().keys()
    assert run.chat_template and run.checkpoint is None


def test_the_newest_checkpoint_stands_in_for_what_the_folder_lacks(tmp_path):
    folder = tmp_path / "run"
    for number, loss in ((5, 1.5), (10, 0.5), (9, 9.9)):
        made(folder / f"checkpoint-{number}", state=log_of([2.0, loss]))
    run = opened(folder)
    assert run.checkpoint == run.place == folder / "checkpoint-10"
    assert run.log[-1]["loss"] == 0.5 and run.arguments and run.tokenizer() is not None


def test_a_checkpoint_by_itself_finds_the_rows_beside_it(tmp_path):
    folder = made(tmp_path / "run", state=False, tensors=False, train=ticket_rows(5))
    run = opened(made(folder / "checkpoint-8"))
    assert len(run.train_rows) == 5 and run.place == folder / "checkpoint-8"


def test_named_files_go_before_those_in_the_folder(tmp_path):
    folder = made(tmp_path / "run", train=ticket_rows(5))
    other = made(tmp_path / "other", train=ticket_rows(7), tokenizer=False)
    assert len(opened(folder, data=other / "train.jsonl").train_rows) == 7


def test_what_is_missing_is_said_with_the_option_that_gives_it(tmp_path):
    notes = " ".join(opened(made(tmp_path / "run", arguments=False)).notes)
    for option in ("--data", "--eval", "--replies", "--config"):
        assert option in notes


def test_nothing_is_written_into_the_folder(tmp_path):
    folder = made(tmp_path / "run", train=ticket_rows(5), asked=with_ids(ticket_rows(2, 9)))
    before = snapshot(folder)
    run = opened(folder)
    run.weights(), run.tokenizer(), run.records("train"), run.records("eval")
    assert snapshot(folder) == before


def test_settings_in_yaml_complete_what_the_arguments_do_not_say(tmp_path):
    folder = made(tmp_path / "run", arguments=False)
    (tmp_path / "sft.yaml").write_text("learning_rate: 1.0e-4\nmax_length: 99\n")
    assert opened(folder, config=tmp_path / "sft.yaml").recipe["max_length"] == 99
    folder = made(tmp_path / "run", arguments={"learning_rate": 5e-4})
    assert opened(folder, config=tmp_path / "sft.yaml").arguments["learning_rate"] == 5e-4


def test_a_text_column_of_another_name_is_the_one_that_the_trainer_took(tmp_path):
    rows = [{"content": f"Some words that stand in row {n}.", "source": "a"} for n in range(5)]
    run = opened(made(tmp_path / "run", arguments={"dataset_text_field": "content"}, train=rows))
    assert [record.text for record in run.records()] == [row["content"] for row in rows]


def test_rows_of_tokens_are_a_form_of_their_own(tmp_path):
    run = opened(made(tmp_path / "run", train=[{"input_ids": [1, 2, 3], "labels": [-100, 2, 3]}] * 3))
    assert run.form() is TOKENS and run.records() == []


# ---------------------------------------------------------------- bad input


def test_a_folder_that_is_none(tmp_path):
    assert "no folder" in refused(tmp_path / "absent")
    (tmp_path / "file").write_text("x")
    assert "is a file" in refused(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    said = refused(tmp_path / "empty")
    assert "adapter_model.safetensors" in said and "trainer_state.json" in said


def test_an_adapter_that_is_a_pickle_is_not_read(tmp_path):
    (tmp_path / "adapter_model.bin").write_bytes(b"\x80\x02K\x01.")
    assert "pickle" in refused(tmp_path)


@pytest.mark.parametrize(
    "content", ['{"log_history": [{"loss": 1', "[1, 2]", '{"global_step": 3}', "", '{"log_history": [3]}']
)
def test_a_damaged_log(content, tmp_path):
    folder = made(tmp_path / "run")
    (folder / "trainer_state.json").write_text(content)
    assert "trainer_state.json" in refused(folder)


def test_damaged_weights(tmp_path):
    folder = made(tmp_path / "run")
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert "adapter_model.safetensors is damaged" in refused(folder)
    weights.write_bytes(b"")
    assert "damaged" in refused(folder)


def test_weights_without_their_configuration(tmp_path):
    folder = made(tmp_path / "run")
    (folder / "adapter_config.json").unlink()
    assert "adapter_config.json" in refused(folder)
    (folder / "adapter_config.json").write_text("{")
    assert "not JSON" in refused(folder)


def test_an_adapter_of_another_base_model(tmp_path):
    folder = made(tmp_path / "run")
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text("{}")
    names = [f"model.layers.{n}.self_attn.{m}.weight" for n in range(2) for m in ("q_proj", "v_proj")]
    save_file({name: torch.zeros(96, 96) for name in names}, base / "model.safetensors")
    said = refused(folder, model=str(base))
    assert "64 x 64" in said and "96 x 96" in said
    save_file({name: torch.zeros(64, 64) for name in names}, base / "model.safetensors")
    assert opened(folder, model=str(base)).base == str(base)
    save_file({"h.0.attn.weight": torch.zeros(64, 64)}, base / "model.safetensors")
    assert "are not in" in refused(folder, model=str(base))


@pytest.mark.parametrize(
    ("module", "stored"),
    [
        ("transformer.h.0.attn.c_attn", {"h.0.attn.c_attn.weight": torch.ones(4, 4)}),  # GPT-2
        (
            "model.language_model.layers.0.self_attn.q_proj",
            {"language_model.model.layers.0.self_attn.q_proj.weight": torch.ones(4, 4)},  # Gemma 3
        ),
        (
            "model.layers.0.self_attn.q_proj",
            {"model.layers.0.self_attn.q_proj.weight": torch.ones(8, dtype=torch.uint8)},  # bitsandbytes
        ),
        ("model.layers.0.self_attn.q_proj", {"model.layers.0.self_attn.q_proj.qweight": torch.ones(4, 4)}),
        ("model.layers.0.mlp.experts", {"model.layers.0.mlp.experts.gate_up_proj": torch.ones(2, 4, 4)}),
    ],
)
def test_a_base_model_whose_files_name_its_modules_otherwise(tmp_path, module, stored):
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text("{}")
    save_file(stored | {"model.embed_tokens.weight": torch.ones(4, 4)}, base / "model.safetensors")
    name = f"base_model.model.{module}"
    tensors = {f"{name}.lora_A.weight": torch.ones(2, 4), f"{name}.lora_B.weight": torch.ones(4, 2)}
    folder = made(tmp_path / "run", tensors=tensors, tokenizer=False)
    assert opened(folder, model=str(base)).base == str(base)
    other = {
        f"{name.replace('.0.', '.70.')}.lora_{s}.weight": one
        for s, one in zip("AB", tensors.values(), strict=True)
    }
    with pytest.raises(LabError, match="another base model.*give its own base with --model"):
        opened(made(tmp_path / "other", tensors=other, tokenizer=False), model=str(base))


def test_an_adapter_of_tensors_without_numbers(tmp_path):
    folder = made(tmp_path, tensors={name: torch.empty(0) for name in adapter()})
    with pytest.raises(LabError, match="stage3_gather_16bit_weights_on_model_save"):
        opened(folder)


def test_rows_of_preferences_are_left_out_and_the_rest_is_looked_at(tmp_path):
    rows = [{"prompt": f"Question {n}?", "chosen": "yes", "rejected": "no"} for n in range(5)]
    run = opened(made(tmp_path, train=rows, asked=with_ids(rows)))
    assert run.train_rows is run.eval_rows is None and run.log
    assert sum("holds preferences (DPO)" in note for note in run.notes) == 2
    assert not any("--data" in note for note in run.notes)


def test_a_base_model_that_is_not_there(tmp_path):
    folder = made(tmp_path / "run", config={"base_model_name_or_path": "/nowhere/a-model"})
    assert opened(folder).base_folder() is None
    assert "--model /nowhere/b" in refused(folder, model="/nowhere/b")


def test_replies_that_cannot_be_joined(tmp_path):
    asked, plain = with_ids(ticket_rows(3)), ticket_rows(3)
    said = [{"id": "e1", "reply": "x"}]
    folder = made(tmp_path / "run", asked=asked)

    def replied(rows):
        path = tmp_path / "replies.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    assert "has no id" in refused(folder, replies=replied([{"reply": "x"}]))
    assert "no reply" in refused(folder, replies=replied([{"id": "e1", "text": "x"}]))
    assert "'e9'" in refused(folder, replies=replied([{"id": "e9", "reply": "x"}]))
    assert opened(folder, replies=replied(said)).replies == said
    assert '"id"' in refused(made(tmp_path / "two", asked=plain), replies=replied(said))
    assert "both have the id" in refused(made(tmp_path / "three", asked=asked + asked), replies=replied(said))
    assert "--eval" in refused(made(tmp_path / "four"), replies=replied(said))


def test_rows_of_no_known_form(tmp_path):
    assert "columns a" in refused(made(tmp_path / "run", train=[{"a": 1}] * 3))
    folder = made(tmp_path / "two")
    (folder / "train.jsonl").write_text('{"prompt": "a", "completion"\n')
    assert "train.jsonl, line 1" in refused(folder)
    assert "absent.jsonl" in refused(folder, data=folder / "absent.jsonl")


def test_two_forms_side_by_side_are_read_as_what_each_is(tmp_path):
    texts = [{"text": f"### Instruction:\nword {n}\n### Response:\nanswer"} for n in range(4)]
    run = opened(made(tmp_path / "run", train=texts, asked=[conversation("word", "answer")]))
    assert run.form("train").name == "text" and run.form("eval").name == "prompt_completion"


def test_a_run_without_adapter_is_looked_at_by_its_log(tmp_path):
    folder = made(tmp_path / "run", tensors=False)
    run = opened(folder)
    assert run.weights() == {} and any("no adapter" in note for note in run.notes)
    shutil.rmtree(folder)
