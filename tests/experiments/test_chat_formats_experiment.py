"""What each arm of the experiment chat_formats trains on, what is scored, and the experiment in small."""

import copy
import json

import pytest
import torch
from tiny_training import tiny_model, train_rows

from labsupport.core import files
from labsupport.evaluation import experiments
from labsupport.experiments import chat_formats_experiment
from labsupport.format_runs import format_training, prompt_formats
from labsupport.models import chat
from labsupport.tasks import tickets

END = "<|im_end|>"


def tiny():
    return tiny_model(attn_implementation="eager")  # as the profile has it on a processor


@pytest.fixture
def trainer_of(tokenizer, monkeypatch):
    """Makes an arm's trainer for a random two-layer Llama with the real vocabulary."""
    monkeypatch.setattr("labsupport.models.base_model.load", lambda: (tiny(), tokenizer))
    return lambda arm, rows=2: format_training.trainer(arm, train_rows()[:rows], seed=0)


def trained_text(trainer, tokenizer):
    return tokenizer.decode([t for t in trainer.train_dataset[0]["labels"] if t != chat.IGNORED])


def test_loss_on_completions_alone(trainer_of, tokenizer):
    answer = tickets.answer(train_rows()[0])
    for arm in ("template", "untrained_specials", "untrained_specials_trained"):
        assert trained_text(trainer_of(arm), tokenizer) == f"{answer}{END}\n"
    for arm in ("alpaca", "alpaca_dropped"):
        assert trained_text(trainer_of(arm), tokenizer) == answer + END
    assert trained_text(trainer_of("hand_rolled"), tokenizer) == f" {answer}{END}"


def test_rendered_text_is_trained_whole_and_ends_twice(trainer_of, tokenizer):
    conversation = format_training.rendered(tokenizer, train_rows()[0])
    assert trained_text(trainer_of("prerendered"), tokenizer) == conversation + END
    assert trained_text(trainer_of("full_row_loss"), tokenizer) == conversation
    twice = prompt_formats.BOS * 2
    assert trained_text(trainer_of("prerendered_bos"), tokenizer) == twice + conversation + END


def test_the_collator_masks_every_end_where_it_is_the_pad_token(trainer_of, tokenizer):
    row = trainer_of("collator_pad_is_eos").train_dataset[0]
    masked = [i for i, label in zip(row["input_ids"], row["labels"], strict=True) if label == chat.IGNORED]
    assert masked == [tokenizer.convert_tokens_to_ids(END)] * 3
    other, full = (trainer_of(arm).train_dataset["labels"] for arm in ("collator_other_pad", "full_row_loss"))
    assert list(other) == list(full)


def test_the_dropped_input_is_nowhere(trainer_of, tokenizer):
    for row, ticket in zip(trainer_of("alpaca_dropped").train_dataset, train_rows(), strict=False):
        assert ticket["text"] not in tokenizer.decode(row["input_ids"])
    for row, ticket in zip(trainer_of("alpaca").train_dataset, train_rows(), strict=False):
        assert ticket["text"] in tokenizer.decode(row["input_ids"])


def test_packed_arms_train_on_the_same_labels(trainer_of):
    counts = {
        arm: format_training.counted(trainer_of(arm, 64)) for arm in ("template", *format_training.ARGUMENTS)
    }
    labels = {arm: count["trained_tokens"] for arm, count in counts.items()}
    assert len(set(labels.values())) == 1, labels
    assert counts["template"]["steps"] == 8
    assert counts["bfd_batch8"]["steps"] == 1
    assert abs(counts["bfd_batch1"]["steps"] - 8) <= 1 >= abs(counts["wrapped"]["steps"] - 8)


@torch.no_grad()
def test_only_wrapped_rows_see_the_ones_before_them(trainer_of):
    for arm, leaks in (("bfd_batch1", False), ("wrapped", True)):
        trainer = trainer_of(arm, 16)
        batch = next(iter(trainer.get_train_dataloader()))
        batch.pop("labels")
        model = trainer.model.eval().float()
        changed = copy.deepcopy(dict(batch))
        changed["input_ids"][0, 3] += 1  # within the first row
        last = [model(**b, use_cache=False).logits[0, -1] for b in (batch, changed)]
        assert (not torch.equal(*last)) == leaks, arm


def test_untrained_rows_are_trained_where_they_come_in_and_go_out(trainer_of, tokenizer):
    ids = torch.tensor([[5, *tokenizer.convert_tokens_to_ids(list(format_training.SPECIALS)), 7]])
    for arm, trained in (("untrained_specials", False), ("untrained_specials_trained", True)):
        trainer = trainer_of(arm)
        names = [n for n, p in trainer.model.named_parameters() if p.requires_grad and "lora" not in n]
        assert len(names) == trained
        if trained:
            parameter = trainer.model.get_parameter(names[0])
            before = trainer.model(input_ids=ids, use_cache=False).logits
            with torch.no_grad():
                parameter += 1
            difference = (trainer.model(input_ids=ids, use_cache=False).logits - before).abs()[0]
            assert difference[0, ids[0, 1:3]].min() > 0  # out: the logits of the two, before either came in
            assert difference[0, 9] == 0
            assert difference[2, 9] > 0  # in: other logits, after they did


def test_the_answer_is_the_same_text_in_every_format(tokenizer):
    for name in prompt_formats.FORMATS:
        for row in train_rows()[:20]:
            example = prompt_formats.encode(tokenizer, name, row)
            assert tokenizer.decode(example.targets).strip() == tickets.answer(row) + END
            assert len(example.answer_offsets) == len(example.targets) - 1
            in_one = prompt_formats.prompt(tokenizer, name, row["text"]) + prompt_formats.completion(
                name, row
            )
            same = tokenizer(in_one + END)["input_ids"] == example.ids
            assert same == (name != "llama3_strings")  # there a token reaches across the border


def test_scores_of_the_template_are_those_of_the_course(tokenizer):
    from labsupport.evaluation import scoring

    model, rows = tiny_model(), train_rows()[:6]
    ours = prompt_formats.scored(model, tokenizer, "template", rows)
    for i, known in enumerate(scoring.score(model, tokenizer, rows)):
        assert sum(ours[c][i] for c in prompt_formats.COLUMNS) == pytest.approx(known["nll"]["all"], abs=1e-3)
        for field in tickets.FIELDS:
            assert ours[field][i] == pytest.approx(known["nll"][field], abs=1e-3)


def test_replies_are_judged(tokenizer):
    row = train_rows()[0]
    right = tokenizer(tickets.answer(row))["input_ids"]
    end = tokenizer.eos_token_id
    replies = [[*right, end, end], right, [*right, *right], [*right[:5], end]]
    result = prompt_formats.judged(tokenizer, [row] * 4, replies)
    assert result["stops"] == [1, 0, 0, 1]
    assert result["right"] == [1, 1, 0, 0] == result["valid"]
    assert result["begins_right"] == [1, 1, 1, 0]


@pytest.mark.slow
def test_record(tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(experiments, "PUBLISHED", tmp_path)
    monkeypatch.setattr(files, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(chat_formats_experiment, "ROWS", 16)
    monkeypatch.setattr(chat_formats_experiment, "WRITTEN", 2)
    few = {"test_lookalike": train_rows()[16:18], "test_production": train_rows()[18:20]}
    monkeypatch.setattr(prompt_formats, "test_sets", lambda: few)
    # They change TRL and the allocator for the whole process, and with them what later tests compute.
    for patch in ("score_only_labels", "keep_freed_memory"):
        monkeypatch.setattr(f"labsupport.core.upstream.{patch}", lambda: None)
    monkeypatch.setattr("labsupport.models.base_model.load", lambda: (tiny_model(), tokenizer))
    seed_0 = [cell for cell in chat_formats_experiment.CELLS if cell["seed"] == 0]
    monkeypatch.setattr(chat_formats_experiment, "CELLS", seed_0)
    experiments.run("chat_formats")
    experiments.publish("chat_formats")
    cells = json.loads((tmp_path / "chat_formats.json").read_text())["cells"]
    for cell in cells:
        arm, metrics = cell["cell"]["arm"], cell["metrics"]
        for name in chat_formats_experiment.SCORED_IN.get(arm, ("template",)):
            for split, rows in few.items():
                assert metrics[name][split]["id"] == [row["id"] for row in rows]
            assert len(metrics[name]["written"]["stops"]) == 4
        if arm != "untuned":
            assert metrics["training"]["log_steps"][-1] <= metrics["data"]["steps"]
