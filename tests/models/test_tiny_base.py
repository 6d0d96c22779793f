"""data/tiny_base as it is shipped: whole, loadable, and what its card says."""

import json
import shutil

import pytest
import torch

from labsupport import cli
from labsupport.core.files import LabError
from labsupport.models import chat, tiny_base
from labsupport.pretraining import corpus, training
from labsupport.tasks import facts, tickets


@pytest.fixture(scope="module")
def loaded():
    return tiny_base.load()


@pytest.fixture(scope="module")
def record():
    return json.loads((tiny_base.FOLDER / tiny_base.RECORD).read_text(encoding="utf-8"))


def test_every_file_is_the_records(capsys):
    assert tiny_base.damage() == []
    assert cli.main(["tiny-base", "--check"]) == 0
    assert "6 files, all as recorded" in capsys.readouterr().out


def test_a_changed_or_missing_file_is_named(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "tiny"
    shutil.copytree(tiny_base.FOLDER, folder)
    (folder / "config.json").write_text("{}", encoding="utf-8")
    (folder / "chat_template.jinja").unlink()
    found = tiny_base.damage(folder)
    assert len(found) == 2 and "chat_template.jinja is missing" in found[0] and "config.json" in found[1]
    with pytest.raises(LabError, match="lacks chat_template.jinja"):
        tiny_base.load(folder)
    (folder / tiny_base.RECORD).unlink()
    with pytest.raises(LabError, match="record.json is missing"):
        tiny_base.damage(folder)


def test_it_is_small(record):
    assert sum(path.stat().st_size for path in tiny_base.FOLDER.iterdir()) < 12 * 2**20
    assert 1_000_000 < record["parameters"] < 3_000_000


def test_the_model_is_the_recorded_shape_in_float32(loaded, record):
    model, _ = loaded
    assert not model.training and {p.dtype for p in model.parameters()} == {torch.float32}
    assert model.num_parameters() == record["parameters"]
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert all(getattr(model.config, name) == value for name, value in training.SHAPE.items())


def test_the_tokenizer_has_the_course_formats(loaded):
    _, tokenizer = loaded
    assert len(tokenizer) == 2048 and tokenizer.pad_token_id == tokenizer.eos_token_id == 2
    assert tokenizer.convert_ids_to_tokens([0, 1, 2]) == ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    for symbol in facts.SYMBOLS:
        assert len(tokenizer.encode(f" {symbol}")) == 1
    assert len(tokenizer.encode("1234567890")) == 10
    row = tickets.load("test_production")[0]
    example = chat.encode_example(tokenizer, row)
    assert tokenizer.decode(example.targets) == tickets.answer(row) + "<|im_end|>\n"
    assert all(b > a for a, b in example.answer_offsets)


def test_the_template_is_the_bundled_models():
    ours = (tiny_base.FOLDER / "chat_template.jinja").read_text(encoding="utf-8")
    theirs = (tickets.FOLDER.parent / "chat_templates" / "chatml.jinja").read_text(encoding="utf-8")
    assert ours == theirs


def test_it_copies_from_its_prompt(loaded):
    """Random words to be written again, of a draw that it was not trained on, token by token."""
    model, tokenizer = loaded
    words = ["value", "matrix", "number", "sample", "model", "size", "output", "window", "result"]
    chats = corpus.drawn(words, {"shop": 0, "lookup": 40})["lookup"]
    chats = [c for c in chats if c[0]["content"] == "Copy."]
    right = asked = 0
    for turns in chats:
        ids = tokenizer(tokenizer.apply_chat_template(turns, tokenize=False))["input_ids"]
        answer = len(tokenizer.encode(turns[-1]["content"]))
        with torch.no_grad():
            choice = model(torch.tensor([ids])).logits[0].argmax(-1).tolist()
        end = len(ids) - 2
        right += sum(choice[i - 1] == ids[i] for i in range(end - answer + 1, end))
        asked += answer - 1
    assert len(chats) >= 3 and right / asked > 0.6
