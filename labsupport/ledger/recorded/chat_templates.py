"""The claims about templates, special tokens, packing and data (section K of the ledger), and about training
code that today's libraries no longer take (section L)."""

from __future__ import annotations

import functools
import random
import re

from labsupport.chat_formats import templates
from labsupport.core import files
from labsupport.evaluation import experiments
from labsupport.format_runs import figures
from labsupport.models import base_model
from labsupport.tasks import tickets
from labsupport.teaching.claims import shows

QUIETLY = {"use_cpu": True, "bf16": False, "activation_checkpointing": False}
ARMS = ("rows32", "rows64", "rows128", "rows256")
QUESTION = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]


@functools.cache
def model_and_tokenizer():
    return base_model.load(base_model.BUNDLED, dtype="float32")


def tokenizer():
    return model_and_tokenizer()[1]


def conversations(count: int) -> list[list[dict]]:
    parts = tickets.as_prompt_completion(tickets.load("train")[:count])
    return [row["prompt"] + row["completion"] for row in parts]


def ids(messages: list[dict]) -> list[int]:
    return tokenizer().apply_chat_template(messages, return_dict=True)["input_ids"]


def fed(row: dict, own_tokenizer=None) -> dict:
    """What TRL's trainer makes of a row: input_ids and labels."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    arguments = SFTConfig(str(files.RUNS / "ledger"), report_to="none", **QUIETLY)
    model, usual = model_and_tokenizer()
    trainer = SFTTrainer(
        model,
        arguments,
        train_dataset=Dataset.from_list([row]),
        processing_class=own_tokenizer or usual,
    )
    return trainer.train_dataset[0]


# ---------------------------------------------------------------- K: templates and special tokens


@shows("K1")
def no_template_no_conversation() -> str:
    own = type(tokenizer()).from_pretrained(tokenizer().name_or_path)
    own.chat_template = None
    try:
        own.apply_chat_template(QUESTION, tokenize=False)
    except ValueError as error:
        return f"without a template, as base checkpoints come: ValueError, {str(error).split(' and ')[0]}"
    return "rendered"


@shows("K3")
def mistral_writes_one_instruction() -> str:
    text = templates.render("mistral-v0.3", QUESTION)
    return f"v0.3's template: {text!r}, one [INST] for both"


@shows("K5")
def input_is_dropped() -> str:
    rows = [{"instruction": "Name the intent.", "input": row["text"]} for row in tickets.load("train")]
    used = {row["instruction"] for row in rows}
    return f"{len(rows):,} rows that differ in their input become {len(used)} prompt, all the same"


@shows("K6")
def rendered_first() -> str:
    messages = conversations(1)[0]
    text = tokenizer().apply_chat_template(messages, tokenize=False)
    row, parts = (
        fed({"text": text}, templates.adding_bos(tokenizer())),
        fed({"prompt": messages[:-1], "completion": messages[-1:]}),
    )
    bos = row["input_ids"][:2].count(tokenizer().bos_token_id)
    ends = row["input_ids"][-3:].count(tokenizer().eos_token_id)
    return (
        f"as text, with a tokenizer that adds BOS: {bos} BOS, {ends} end marks, {trained(row)} tokens "
        f"trained on; as prompt and completion {trained(parts)}"
    )


def trained(row: dict) -> str:
    return f"{sum(label != -100 for label in row['labels'])} of {len(row['labels'])}"


@shows("K7")
def text_beside_messages_is_ignored() -> str:
    messages = conversations(1)[0]
    row = fed({"messages": messages, "text": "Something else."})
    return f"the rows are those of `messages`: {row['input_ids'] == ids(messages)}"


@shows("K8")
def who_masks_the_end() -> str:
    from transformers import DataCollatorForLanguageModeling

    messages = conversations(1)[0]
    whole, end = ids(messages), tokenizer().eos_token_id
    by_id = DataCollatorForLanguageModeling(tokenizer(), mlm=False)([{"input_ids": whole}])["labels"][0]
    by_trl = fed({"messages": messages})["labels"]
    counts = [sum(label == end for label in list(labels)) for labels in (by_id.tolist(), by_trl)]
    return f"end marks trained on: transformers' collator {counts[0]}, TRL {counts[1]} of {whole.count(end)}"


@shows("K10")
def packing_saves_padding_and_steps() -> str:
    from datasets import Dataset
    from trl.data_utils import pack_dataset

    rows = [ids(messages) for messages in conversations(512)]
    packed = len(pack_dataset(Dataset.from_list([{"input_ids": row} for row in rows]), 1024, strategy="bfd"))
    real = sum(map(len, rows))
    padded = sum(8 * max(map(len, rows[i : i + 8])) for i in range(0, 512, 8))
    return (
        f"512 rows in rows of 1,024: {padded / real:.2f} times fewer tokens than padded to the longest of 8, "
        f"{512 * 1024 / real:.1f} times than padded to 1,024; steps of 8 rows: {packed / 8:.0f} for 64"
    )


@shows("K11")
def positions_keep_rows_apart() -> str:
    import torch

    model = model_and_tokenizer()[0]
    first, second = map(ids, conversations(2))
    both = torch.tensor([first + second])
    places = torch.tensor([[*range(len(first)), *range(len(second))]])
    with torch.no_grad():
        alone = model(torch.tensor([second])).logits[0]
        glued = model(both).logits[0, len(first) :]
        apart = model(both, position_ids=places, use_cache=False).logits[0, len(first) :]
    leaks = [(logits - alone).abs().max().item() for logits in (glued, apart)]
    assert leaks[1] < 1e-3 < 1 < leaks[0]
    return "logits differ by more than 1 behind each other, by less than 0.001 with positions restarted"


@shows("K12")
def copies_first_then_split() -> str:
    lots = random.Random(0)
    texts = [row["text"] for row in tickets.load("train")[:1000]]
    gathered = texts + [f"{text.rstrip('.!')} !" for text in lots.sample(texts, 300)]
    lots.shuffle(gathered)
    split_first = known(*({plain(text) for text in side} for side in halves(gathered)))
    once = sorted({plain(text) for text in gathered})
    lots.shuffle(once)
    copies_first = known(*map(set, halves(once)))
    return (
        f"of the test set the training set knows: {split_first:.0f} % with 30 % near copies and the split "
        f"first, {copies_first:.0f} % with the copies taken out first"
    )


def halves(texts: list) -> tuple[list, list]:
    """A fifth to test on, the rest to train on."""
    return texts[: len(texts) // 5], texts[len(texts) // 5 :]


def known(test: set, train: set) -> float:
    return 100 * len(test & train) / len(test)


def plain(text: str) -> str:
    return re.sub(r"\W", "", text.lower())


# ---------------------------------------------------------------- L: code of older libraries


def outcome(**settings) -> str:
    """What SFTConfig says to an argument."""
    from trl import SFTConfig

    try:
        SFTConfig(str(files.RUNS / "ledger"), **(QUIETLY | settings))
    except (TypeError, ValueError) as error:
        return type(error).__name__
    return "taken"


@shows("L1")
def evaluation_strategy() -> str:
    return f"{outcome(evaluation_strategy='no')}; eval_strategy: {outcome(eval_strategy='no')}"


@shows("L2")
def max_seq_length() -> str:
    return f"{outcome(max_seq_length=512)}; max_length: {outcome(max_length=512)}"


@shows("L3")
def warmup_ratio() -> str:
    return f"{outcome(warmup_ratio=0.03)}; warmup_steps=0.03, a share below 1: {outcome(warmup_steps=0.03)}"


@shows("L4")
def tokenizer_argument() -> str:
    import inspect

    from trl import SFTTrainer

    known = inspect.signature(SFTTrainer).parameters
    return (
        f"SFTTrainer has tokenizer: {'tokenizer' in known}, processing_class: {'processing_class' in known}"
    )


@shows("L8")
def half_precision_on_a_processor() -> str:
    import torch

    if torch.cuda.is_available():
        return "there is a card here"
    default = outcome(use_cpu=False, bf16=None)
    return f"SFTConfig() without a card: {default}; with use_cpu=True, bf16=False: {outcome()}"


# ---------------------------------------------------------------- K: what was recorded


@shows("K2")
def same_format_or_another() -> str:
    cells = experiments.published("chat_formats")["cells"]
    ways = {
        "the model's template": figures.RIGHT,
        "roles by hand in training and use": ("hand_rolled", "hand_rolled"),
        "the template in training, roles by hand in use": ("template", "hand_rolled"),
    }
    shares = [f"{name} {100 * figures.right(cells, way):.1f} %" for name, way in ways.items()]
    return f"right answers (forced, 211 messages): {'; '.join(shares)}"


@shows("K13")
def more_rows_at_equal_steps() -> str:
    cells = experiments.published("learning_curve")["cells"]
    by_arm = {
        arm: {c["cell"]["seed"]: c["metrics"] for c in cells if c["cell"]["arm"] == arm} for arm in ARMS
    }
    parts, seeds = [], len(by_arm["rows256"])
    for rows in (32, 64, 128):
        mean, low, high = figures.paired(by_arm["rows256"], by_arm[f"rows{rows}"], "test_lookalike")
        parts.append(f"{rows} rows {mean:+.2f} [{low:.2f}, {high:.2f}]")
    return f"nats an answer more than after 256 rows once, at equal steps ({seeds} seeds): {', '.join(parts)}"
