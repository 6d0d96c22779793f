"""Chat tokens and labels: what the course shows is what TRL trains on."""

import math

import pytest
import torch
from datasets import Dataset, disable_progress_bars
from tiny_training import tiny_model
from transformers import PrinterCallback
from trl import SFTConfig, SFTTrainer

from labsupport.models import chat
from labsupport.tasks import tickets

ROWS = tickets.load("train")[:50]


def test_trl_trains_on_the_same_tokens_and_labels(tokenizer, tmp_path):
    disable_progress_bars()
    arguments = SFTConfig(
        output_dir=str(tmp_path),
        use_cpu=True,
        bf16=False,
        activation_checkpointing=False,
        report_to="none",
        max_length=256,
        disable_tqdm=True,
    )
    data = Dataset.from_list(tickets.as_prompt_completion(ROWS))
    trainer = SFTTrainer(tiny_model(), args=arguments, train_dataset=data, processing_class=tokenizer)
    trainer.remove_callback(PrinterCallback)
    theirs = list(trainer.train_dataset)
    assert len(theirs) == len(ROWS)
    for row, their in zip(ROWS, theirs, strict=True):
        ours = chat.encode_example(tokenizer, row)
        labels = chat.labels(ours.ids, ours.prompt_length)
        assert their["input_ids"] == ours.ids
        collated = trainer.data_collator([{k: their[k] for k in their if k != "text"}])
        assert collated["input_ids"][0].tolist() == ours.ids
        assert collated["labels"][0].tolist() == labels


def test_the_labels_are_the_answer_and_the_end_of_the_turn(tokenizer):
    for row in ROWS:
        example = chat.encode_example(tokenizer, row)
        labels = chat.labels(example.ids, example.prompt_length)
        learned = [token for token in labels if token != chat.IGNORED]
        assert tokenizer.decode(learned) == tickets.answer(row) + "<|im_end|>\n"
        assert tokenizer.eos_token == "<|im_end|>"
        assert labels.index(tokenizer.eos_token_id) == example.prompt_length + len(example.answer_offsets)
        assert len(labels) == len(example.ids)


def test_the_offsets_spell_the_answer(tokenizer):
    for row in ROWS:
        example = chat.encode_example(tokenizer, row)
        assert "".join(example.answer[a:b] for a, b in example.answer_offsets) == tickets.answer(row)


def test_a_message_that_quotes_its_own_answer_is_located_in_the_answer(tokenizer):
    row = ROWS[0] | {"text": f"Is it {tickets.answer(ROWS[0])}?"}
    example = chat.encode_example(tokenizer, row)
    assert example.answer_offsets[0][0] == 0
    assert example.answer_offsets[-1][1] == len(example.answer)


def test_a_template_that_hides_the_prompt_is_refused(tokenizer, monkeypatch):
    template = tokenizer.chat_template.replace("<|im_start|>assistant", "<|im_start|>assistant <think>")
    monkeypatch.setattr(tokenizer, "chat_template", template)
    with pytest.raises(ValueError, match="not a prefix"):
        chat.encode_example(tokenizer, ROWS[0])


def test_padding_stands_in_front_and_is_neither_seen_nor_learned(tokenizer):
    ids, mask = chat.pad_left(tokenizer, [[5, 6, 7], [8]])
    pad = tokenizer.pad_token_id
    assert ids.tolist() == [[5, 6, 7], [pad, pad, 8]] and ids.dtype == torch.int64
    assert mask.tolist() == [[1, 1, 1], [0, 0, 1]]
    labels = chat.pad_labels_left([[chat.IGNORED, 6, 7], [8]])
    assert labels.tolist() == [[-100, 6, 7], [-100, -100, 8]] and labels.dtype == torch.int64


def test_answer_loss_is_the_mean_over_learned_tokens_of_the_whole_batch():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 6, 11, generator=generator)
    ids = torch.randint(11, (2, 6), generator=generator)
    labels = torch.tensor([chat.labels(ids[0].tolist(), 2), chat.labels(ids[1].tolist(), 5)])
    losses = []
    for row in range(2):
        for t in range(1, 6):
            if labels[row, t] != chat.IGNORED:
                scores = [math.exp(x) for x in logits[row, t - 1].tolist()]
                losses.append(-math.log(scores[labels[row, t]] / sum(scores)))
    assert len(losses) == 5
    assert chat.answer_loss(logits, labels).item() == pytest.approx(sum(losses) / 5, rel=1e-5)
