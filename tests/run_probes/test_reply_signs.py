"""Which adapter, prompt, padding and number format made recorded replies.

One tiny base model that answers every question alike, and an adapter that knows sixteen answers by heart. The
replies are made by transformers' own generate(), in a healthy way and in broken ones.
"""

import contextlib
import copy
import json
import shutil

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from labsupport.broken_runs import asking as evaluation
from labsupport.chat_formats import templates
from labsupport.models import chat
from labsupport.run_folders import run_folder
from labsupport.run_folders.causes import PROVES
from labsupport.run_probes import number_formats, reply_probes, reply_signs
from labsupport.run_rows.reply_ways import Asking, parted, ways
from labsupport.training_data.record import Record

SYSTEM = "Write the code of the thing that is named."
COLOURS, NAMES = ("red", "very old blue", "green", "new and large", "small"), ("tent", "rope", "lamp", "boot")
THINGS = [f"{colour} {name}" for name in NAMES for colour in COLOURS]
TRAINED = 16


def row(number: int) -> dict:
    """A question about a thing, and its code, which follows from nothing."""
    first, second, third = (7 * number % 10, (7 * number + 3) % 10, (7 * number + 12) % 10)
    return {
        "prompt": [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": f"What is the code of the {THINGS[number]}?"},
        ],
        "completion": [{"role": "assistant", "content": f"It is {first} {second} {third}."}],
    }


def tiny_tokenizer():
    """Byte-level BPE with ChatML's marks and template."""
    own = Tokenizer(models.BPE())
    own.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    own.decoder = decoders.ByteLevel()
    texts = [message["content"] for number in range(len(THINGS)) for message in row(number)["prompt"]]
    settings = {
        "vocab_size": 400,
        "special_tokens": ["<|im_end|>", "<|im_start|>"],
        "initial_alphabet": pre_tokenizers.ByteLevel.alphabet(),
        "show_progress": False,
    }
    own.train_from_iterator([*texts, "system\nuser\nassistant\n"], trainers.BpeTrainer(**settings))
    special = {"eos_token": "<|im_end|>", "pad_token": "<|im_end|>", "bos_token": "<|im_start|>"}
    return PreTrainedTokenizerFast(
        tokenizer_object=own, chat_template=templates.load("chatml").jinja, **special
    )


def fit(model, tokenizer, rows: list[dict], steps: int, rate: float) -> None:
    """Adam on the answers of all rows at once."""
    ids = [
        tokenizer.apply_chat_template(one["prompt"] + one["completion"], return_dict=True)["input_ids"]
        for one in rows
    ]
    starts = [
        len(tokenizer.apply_chat_template(one["prompt"], add_generation_prompt=True)["input_ids"])
        for one in rows
    ]
    batch, mask = chat.pad_left(tokenizer, ids)
    labels = chat.pad_labels_left([chat.labels(*pair) for pair in zip(ids, starts, strict=True)])
    places = (mask.cumsum(1) - 1).clamp(min=0)
    optimizer = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], rate)
    model.train()
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * min(1, (step + 1) / 10) * (1 - step / steps)
        logits = model(input_ids=batch, attention_mask=mask, position_ids=places).logits
        optimizer.zero_grad()
        chat.answer_loss(logits, labels).backward()
        optimizer.step()
    model.eval()


def write_rows(path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """base/ with the base model, run/ with what a trainer leaves, and the rows."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    place = tmp_path_factory.mktemp("replies")
    tokenizer = tiny_tokenizer()
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    special = {"bos_token_id": 1, "eos_token_id": 0, "pad_token_id": 0}
    config = LlamaConfig(vocab_size=len(tokenizer), initializer_range=0.1, **sizes, **special)
    model = LlamaForCausalLM(config)
    rows = [row(number) for number in range(len(THINGS))]
    unknowing = [{"role": "assistant", "content": "I do not know."}]
    fit(model, tokenizer, [one | {"completion": unknowing} for one in rows], 40, 5e-3)
    model.save_pretrained(place / "base")
    tokenizer.save_pretrained(place / "base")
    base = AutoModelForCausalLM.from_pretrained(place / "base")
    tuned = get_peft_model(
        base, LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
    )
    fit(tuned, tokenizer, rows[:TRAINED], 120, 1e-2)
    tuned.save_pretrained(place / "run")
    tokenizer.save_pretrained(place / "run")
    write_rows(place / "run" / "train.jsonl", rows[:TRAINED])
    write_rows(place / "run" / "eval.jsonl", [{"id": number, **one} for number, one in enumerate(rows)])
    return place


@pytest.fixture(scope="module")
def bench(folder):
    run = run_folder.opened(folder / "run")
    return reply_probes.opened(str(run.base_folder()), run.place, run.tokenizer(), "float32")[0]


def replied(folder, bench, form="template", batch=8, side="left", adapter=True):
    """The run with replies that its evaluation got in this way."""
    rows = run_folder.opened(folder / "run").eval_rows
    with contextlib.nullcontext() if adapter else bench.model.disable_adapter():
        found = evaluation.replies(bench.model, bench.tokenizer, rows, form, batch, side)
    said = [{"id": one["id"], "reply": text} for one, (text, _) in zip(rows, found, strict=True)]
    return with_replies(folder, said)


def with_replies(folder, said: list[dict]):
    write_rows(folder / "replies.jsonl", said)
    return run_folder.opened(folder / "run", replies=folder / "replies.jsonl")


def found_in(run, bench):
    return reply_signs.reply_signs(run, bench, Asking(run))


# ---------------------------------------------------------------- what explains the replies


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 8])
def test_replies_of_the_adapter_asked_as_trained_are_healthy(folder, bench, batch):
    assert found_in(replied(folder, bench, batch=batch), bench) == []


@pytest.mark.slow
def test_replies_without_the_adapter_are_told_from_those_with_it(folder, bench):
    (sign,) = found_in(replied(folder, bench, adapter=False), bench)
    assert (sign.cause, sign.strength) == ("adapter-inactive", PROVES)
    assert "16 of 16 replies" in sign.text


@pytest.mark.slow
@pytest.mark.parametrize("batch", [3, 8, 12])
def test_right_padding_is_found_in_batches_of_any_size(folder, bench, batch):
    run = replied(folder, bench, batch=batch, side="right")
    (sign,) = found_in(run, bench)
    assert (sign.cause, sign.strength) == ("padding-side", PROVES)
    assert "in batches padded on the right" in sign.text
    assert batch != 8 or "(of 8 rows, for one)" in sign.text  # several sizes may come to the same


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "said"),
    [
        ("no_system", "without a system turn"),
        ("plain", "roles written by hand"),
        ("alpaca", "Alpaca"),
        ("llama3", "Llama 3"),
    ],
)
def test_another_way_of_asking_is_named(folder, bench, form, said):
    (sign,) = found_in(replied(folder, bench, form=form), bench)
    assert (sign.cause, sign.strength) == ("eval-template", PROVES)
    assert said in sign.text


@pytest.mark.slow
def test_rows_trained_as_strings_and_asked_by_the_template_are_a_mismatch(folder, bench):
    """The run counts as trained on what "plain" writes; its replies were made with the template."""
    place = folder / "strings"
    shutil.copytree(folder / "run", place, dirs_exist_ok=True)
    strings = [
        {
            "prompt": evaluation.prompt_text(bench.tokenizer, row(number), "plain"),
            "completion": " " + evaluation.expected(row(number)),
        }
        for number in range(TRAINED)
    ]
    write_rows(place / "train.jsonl", strings)
    said = replied(folder, bench).replies
    write_rows(place / "replies.jsonl", said)
    (sign,) = found_in(run_folder.opened(place), bench)
    assert (sign.cause, sign.strength) == ("template-mismatch", PROVES)
    assert "with the model's chat template" in sign.text


@pytest.mark.slow
def test_replies_that_nothing_explains_are_noted_and_no_sign(folder, bench):
    run = with_replies(folder, [{"id": number, "reply": "Blue tents are rope."} for number in range(16)])
    assert found_in(run, bench) == []
    assert "0 of 16" in run.notes[-1] and "sampling" in run.notes[-1]


@pytest.mark.slow
def test_another_number_format_counts_only_where_it_does_harm(folder, bench, monkeypatch):
    """The other format is played by weights rounded so coarsely that replies change."""
    run = replied(folder, bench)
    coarse = copy.deepcopy(bench)
    coarse.dtype = "nf4"
    with torch.no_grad():
        for name, weight in coarse.model.named_parameters():
            if "proj.base_layer" in name:
                step = weight.abs().max() / 3
                weight.copy_((weight / step).round() * step)
    run = replied(folder, coarse)
    asking = Asking(run)
    rows = [record for record, _ in run.pairs()][:16]
    prompts, texts = ways(asking, rows)[0].prompts, [reply for _, reply in run.pairs()][:16]
    followed = reply_probes.followed(bench, prompts, texts)
    healthy = reply_signs.Explanation("", "", followed)
    assert healthy.share < 0.5
    monkeypatch.setattr(reply_probes, "opened", lambda *_: (coarse, [], []))
    sign = number_formats.sign(run, bench, asking, prompts, texts, healthy)
    assert (sign.cause, sign.strength) == ("eval-dtype", PROVES)
    assert "16 of 16" in sign.text and "nf4" in sign.text
    monkeypatch.setattr(number_formats, "worse", lambda *_: False)
    assert number_formats.sign(run, bench, asking, prompts, texts, healthy) is None


def test_losses_count_as_worse_only_if_they_surely_rose():
    before = [0.1, 0.5, 0.2, 0.9, 0.3, 0.4]
    assert number_formats.worse(before, [one * 1.5 for one in before])
    assert not number_formats.worse(before, [one * 1.01 for one in before])
    assert not number_formats.worse(before, [0.6, 0.1, 0.5, 0.4, 0.9, 0.2])


def test_rows_are_padded_up_to_the_longest_of_their_batch():
    assert reply_probes.padded_rows([3, 5, 4, 4, 9], 2) == [True, False, False, False, False]
    assert reply_probes.padded_rows([3, 5, 4, 4, 9], 3) == [True, False, True, True, False]


@pytest.mark.parametrize(
    ("text", "prompt"),
    [
        ("<|im_start|>user\nA?<|im_end|>\n<|im_start|>assistant\nB", "<|im_start|>assistant\n"),
        ("### Instruction:\nA?\n\n### Response:\nB", "### Response:\n"),
        ("Be brief.\n\nuser: A?\nassistant: B", "assistant:"),
        ("<|start_header_id|>assistant<|end_header_id|>\n\nB", "<|end_header_id|>\n\n"),
    ],
)
def test_a_text_is_parted_before_its_last_answer(text, prompt):
    before, answer = parted(Record(1, "row 1", "text", {}, text=text))
    assert before.endswith(prompt) and answer.strip() == "B" and before + answer == text


def test_a_text_without_a_marked_answer_is_not_parted():
    assert parted(Record(1, "row 1", "text", {}, text="Once upon a time there was a tent.")) is None


# ---------------------------------------------------------------- the whole, on a folder


@pytest.mark.slow
def test_a_run_that_knows_its_few_rows_by_heart(folder, bench):
    found = reply_signs.signs(replied(folder, bench))
    assert {sign.cause for sign in found} <= {"memorised"}


@pytest.mark.slow
def test_an_adapter_under_other_names_is_inactive(folder):
    place = folder / "renamed"
    shutil.copytree(folder / "run", place, dirs_exist_ok=True)
    weights = load_file(place / "adapter_model.safetensors")
    renamed = {name.replace("layers.1.", "blocks.1."): value for name, value in weights.items()}
    save_file(renamed, place / "adapter_model.safetensors")
    found = reply_signs.signs(run_folder.opened(place))
    assert [(sign.cause, sign.strength) for sign in found] == [("adapter-inactive", PROVES)]
    assert "blocks.1." in found[0].text


@pytest.mark.slow
def test_an_adapter_that_is_still_zero_changes_nothing(folder):
    place = folder / "zero"
    base = AutoModelForCausalLM.from_pretrained(folder / "base")
    get_peft_model(base, LoraConfig(r=4, task_type="CAUSAL_LM")).save_pretrained(place)
    for name in (
        "train.jsonl",
        "eval.jsonl",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
    ):
        shutil.copy(folder / "run" / name, place)
    (sign,) = reply_signs.signs(run_folder.opened(place))
    assert sign.cause == "no-gradient" and "changes nothing at all" in sign.text


@pytest.mark.slow
def test_a_base_model_that_is_not_here_is_noted(folder):
    run = run_folder.opened(folder / "run")
    run.base = "nobody/has-this"
    assert reply_signs.signs(run) == []
    assert "nobody/has-this" in run.notes[-1] and "--model" in run.notes[-1]


@pytest.mark.slow
def test_a_wrecked_adapter_is_worse_than_its_base(folder):
    place = folder / "wrecked"
    shutil.copytree(folder / "run", place, dirs_exist_ok=True)
    weights = load_file(place / "adapter_model.safetensors")
    wrong = {name: -2 * value if "lora_B" in name else value for name, value in weights.items()}
    save_file(wrong, place / "adapter_model.safetensors")
    (sign,) = reply_signs.signs(run_folder.opened(place))
    assert sign.cause == "lr-too-high" and "worse" in sign.text
