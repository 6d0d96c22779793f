"""Run folders of the clinic, made with a random two-layer Llama, and what can be asked of them."""

import json
import random

import pytest
import torch
from safetensors.torch import load_file
from tiny_training import tiny_model
from transformers.trainer_utils import set_seed

from labsupport.broken_runs import asking, case_rows, kinds, making, probing
from labsupport.core.files import LabError
from labsupport.models import tiny_base
from labsupport.models.chat import IGNORED

WRITTEN = {
    "adapter_config.json",
    "adapter_model.safetensors",
    "chat_template.jinja",
    "eval.jsonl",
    "replies.jsonl",
    "README.md",
    "tokenizer.json",
    "tokenizer_config.json",
    "train.jsonl",
    "trainer_state.json",
    "training_args.bin",
}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """The folder of a random two-layer Llama with the tokenizer of tiny_base."""
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("model") / "llama"
    tokenizer = AutoTokenizer.from_pretrained(tiny_base.FOLDER)
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    ids["pad_token_id"] = tokenizer.pad_token_id
    tiny_model(hidden_size=64, vocab_size=len(tokenizer), initializer_range=0.5, **ids).save_pretrained(
        folder
    )
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def small(monkeypatch):
    """Cases of a few rows and steps, on tickets where a kind can be."""
    numbers = {"eval_rows": 6, "epochs": 2, "batch": 4, "learning_rate": kinds.LogBetween(1e-3, 2e-3)}
    monkeypatch.setitem(kinds.HEALTHY, (kinds.TINY, "tickets"), numbers | {"rows": 16})
    monkeypatch.setitem(kinds.HEALTHY, (kinds.TINY, "facts"), numbers | {"facts": 5})
    monkeypatch.setitem(kinds.VARIED, "points", 4)
    monkeypatch.setattr(kinds, "TINY_ON_FACTS", ())
    torch.set_num_threads(1)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def fed(kind, base, folder):
    """(tokenizer, what the trainer of a kind is fed: ids and labels of every row)."""
    case = kinds.case(kind, 0, base)
    model, tokenizer = making.load(base)
    trainer = making.trainer(case, model, tokenizer, folder)
    batches = [
        trainer.data_collator([row]) for row in trainer.train_dataset.select_columns(["input_ids", "labels"])
    ]
    return tokenizer, [(b["input_ids"][0].tolist(), b["labels"][0].tolist()) for b in batches]


def learned(tokenizer, row):
    ids, labels = row
    return tokenizer.decode([i for i, label in zip(ids, labels, strict=True) if label != IGNORED])


@pytest.fixture
def fed_by(base, small, tmp_path):
    return lambda kind: fed(kind, base, tmp_path / "trainer")


# ---------------------------------------------------------------- what is broken is broken


def test_a_healthy_run_learns_answers_and_their_end(fed_by):
    tokenizer, rows = fed_by("healthy")
    assert len(rows) == 16
    for row in rows:
        assert learned(tokenizer, row).startswith('{"intent":') and learned(tokenizer, row).endswith(
            "}<|im_end|>\n"
        )


@pytest.mark.parametrize("way", ["labels", "collator"])
def test_the_end_is_not_learned(fed_by, monkeypatch, way):
    monkeypatch.setitem(kinds.KINDS, "eos-not-learned", {"end_masked": way})
    tokenizer, rows = fed_by("eos-not-learned")
    assert {learned(tokenizer, row)[-2:] for row in rows} == {"}\n"}
    assert all(tokenizer.eos_token_id in ids for ids, _ in rows)


@pytest.mark.parametrize("way", ["messages", "setting"])
def test_the_prompt_is_learned(fed_by, monkeypatch, way):
    monkeypatch.setitem(kinds.KINDS, "prompt-in-loss", {"loss_on_prompt": way})
    _, rows = fed_by("prompt-in-loss")
    assert all(ids == labels for ids, labels in rows)


@pytest.mark.parametrize("form", ["plain", "alpaca", "llama3"])
def test_rows_in_another_format_have_none_of_the_templates_marks_but_the_end(fed_by, monkeypatch, form):
    monkeypatch.setitem(kinds.KINDS, "template-mismatch", {"format": form})
    tokenizer, rows = fed_by("template-mismatch")
    for row in rows:
        assert learned(tokenizer, row).strip().startswith('{"intent":')
        assert tokenizer.decode(row[0]).count("<|im_") == 1


def test_most_rows_have_no_learned_token_left(fed_by, base):
    tokenizer, rows = fed_by("truncated")
    case = kinds.case("truncated", 0, base)
    assert 1 <= len(rows) <= round((1 - case["cut"]) * case["rows"]) + 1
    assert not all(learned(tokenizer, row).endswith("<|im_end|>\n") for row in rows)


# ---------------------------------------------------------------- run folders


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["healthy", "no-gradient", "capacity-too-small"])
def test_a_run_folder_is_what_a_trainer_leaves_and_does_not_say_its_kind(base, small, tmp_path, kind):
    folder = tmp_path / f"{kind}-0"
    case = making.make(kind, 0, folder, base)
    assert {file.name for file in folder.iterdir()} == WRITTEN
    for file in folder.iterdir():
        assert kind.encode() not in file.read_bytes(), file.name
    asked = lines(folder / "eval.jsonl")
    assert [row["id"] for row in asked] == [line["id"] for line in lines(folder / "replies.jsonl")]
    assert asked == case_rows.evaluation(case) and lines(folder / "train.jsonl") == case_rows.training(case)
    log = json.loads((folder / "trainer_state.json").read_text())["log_history"]
    assert len([entry for entry in log if "loss" in entry]) >= 4
    assert len([entry for entry in log if "eval_loss" in entry]) >= 4
    norms = probing.probe("adapter", case, folder)["norms"]
    nothing_learned = kind == "no-gradient"
    assert all((b == 0) == nothing_learned and a > 0 for a, b in norms.values())
    assert all((entry["grad_norm"] == 0) == nothing_learned for entry in log if "grad_norm" in entry)
    assert len(norms) == (2 if kind == "capacity-too-small" else 14) or case["targets"] == "q_proj,v_proj"


@pytest.mark.slow
def test_the_same_seed_makes_the_same_run(base, small, tmp_path):
    for name in ("one", "two"):
        making.make("noisy-labels", 3, tmp_path / name, base)
    for file in ("train.jsonl", "eval.jsonl", "replies.jsonl", "trainer_state.json"):
        one, two = ((tmp_path / name / file).read_text() for name in ("one", "two"))
        if file == "trainer_state.json":
            one, two = (
                [entry.get("loss") for entry in json.loads(text)["log_history"]] for text in (one, two)
            )
        assert one == two
    weights = [load_file(tmp_path / name / "adapter_model.safetensors") for name in ("one", "two")]
    assert all(weights[0][name].equal(weights[1][name]) for name in weights[0])


@pytest.mark.slow
def test_every_probe_answers_in_json_and_the_broken_one_differs(base, small, tmp_path):
    case = making.make("adapter-inactive", 0, tmp_path / "run", base)
    answers = {name: probing.probe(name, case, tmp_path / "run") for name in probing.PROBES}
    assert json.loads(json.dumps(answers)) == answers
    view = probing.view(case, tmp_path / "run")
    assert json.loads(json.dumps(view)) == view and len(view["replies"]) == 5
    assert "adapter-inactive" not in json.dumps([answers, view])
    own = view["evaluation"]
    assert answers["without_adapter"]["loss"] == own["loss"] == answers["training_format"]["loss"]
    unchanged = {name for name, answer in answers.items() if answer == {"unchanged": True}}
    assert unchanged == {"clean_labels", "no_copies", "default_tokens"}
    assert answers["lower_rate"]["log"] != answers["higher_rate"]["log"]
    assert (
        answers["tokens"]["given"] == answers["tokens"]["kept"] == 16 and len(answers["tokens"]["rows"]) == 5
    )


def test_copies_are_found_where_there_are_some(base, small, monkeypatch, tmp_path):
    case = kinds.case("leaked-eval", 0, base)
    found = probing.probe("copies", case, tmp_path)
    assert found["of"] == 6 and found["found"] == round(case["leaked"] * 6)
    assert probing.probe("copies", kinds.case("healthy", 0, base), tmp_path)["found"] == 0


def test_an_unknown_base_is_a_line(tmp_path):
    with pytest.raises(LabError, match="Unknown base model"):
        making.make("healthy", 0, tmp_path / "run", "no-such-model")
    assert not (tmp_path / "run").exists()


# ---------------------------------------------------------------- the evaluation


def test_right_padding_changes_the_replies_to_all_but_the_longest_prompt(base):
    model, tokenizer = making.load(base)
    rows = case_rows.evaluation(kinds.case("healthy", 0, base, "tickets"))[:4]
    ask = lambda batch, side: [t for t, _ in asking.replies(model, tokenizer, rows, "template", batch, side)]  # noqa: E731
    alone, left, right = ask(1, "left"), ask(4, "left"), ask(4, "right")
    lengths = [len(ids) for ids in asking.prompt_ids(tokenizer, rows, "template")]
    longest = lengths.index(max(lengths))
    assert alone == left and alone == ask(1, "right")
    assert [a == b for a, b in zip(alone, right, strict=True)] == [i == longest for i in range(4)]


def test_losses_are_those_of_one_row_after_the_other(base):
    model, tokenizer = making.load(base)
    set_seed(0)
    rows = case_rows.evaluation(kinds.case("healthy", 0, base, "tickets"))[:3]
    for form in asking.FORMATS:
        together = asking.losses(model, tokenizer, rows, form)
        alone = [asking.losses(model, tokenizer, [row], form)[0] for row in rows]
        assert together == pytest.approx(alone, rel=1e-4)
    row = rows[0]
    front = asking.prompt_ids(tokenizer, [row], "template")[0]
    back = tokenizer(asking.expected(row) + "<|im_end|>", add_special_tokens=False)["input_ids"]
    labels = torch.tensor([[IGNORED] * len(front) + back])
    expected = model(input_ids=torch.tensor([front + back]), labels=labels).loss.item()
    assert asking.losses(model, tokenizer, [row], "template") == pytest.approx([expected], rel=1e-4)


def test_replies_are_judged_field_by_field_and_symbol_by_symbol():
    (row,) = case_rows.tickets_of("validation", random.Random(0), 1)
    right = asking.expected(row)
    other = json.dumps(json.loads(right) | {"urgency": "soon"}, separators=(",", ":"))
    wrong = json.dumps(json.loads(right) | {"product": "no such thing"}, separators=(",", ":"))
    figures = asking.judged(
        "tickets", [row] * 4, [(right, True), (wrong, True), (other, True), ("", False)], [1.0] * 4
    )
    assert figures == {"rows": 4, "exact": 0.25, "parts": 0.438, "valid": 0.5, "ended": 0.75, "loss": 1.0}
    assert asking.facts_part("A B C D E F G H", "A B C D E F H G") == (0.75, True)
    assert asking.facts_part("A B C D E F G H", "A B C D E F G H A") == (1.0, False)
    assert asking.facts_part("A B C D E F G H", "") == (0.0, False)
