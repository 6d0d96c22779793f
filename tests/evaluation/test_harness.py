"""The course's scores and lm-evaluation-harness's, of the same model on the same data, without a network."""

import logging
import random

import fresh_process
import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from labsupport.core.files import LabError
from labsupport.evaluation import canary_scoring, harness, perplexity
from labsupport.models import base_model
from labsupport.tasks import canary, general


@pytest.fixture(scope="module")
def tiny(tokenizer):
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), initializer_range=0.2, **sizes))


ODD = [
    {"question": "Where is the lake?", "choices": ["Zürich", "in Ö", "{{x}}", "a  b\nc"], "answer": 0},
    {"question": "7?", "choices": ["8", "ate", "oito e meio", "été"], "answer": 3},
]
TEXTS = [
    "One line.",
    "Two\n\nparagraphs, {{ not }} a template.",
    "日本語 and é",
    " led by a blank",
    "x\t\ty ",
]


def check_choices(model, tokenizer, rows):
    ours = canary_scoring.score(model, tokenizer, rows)
    theirs = harness.multiple_choice(model, tokenizer, rows)
    for row, mine, nll in zip(rows, ours, theirs["nll"], strict=True):
        assert mine["nll"] == pytest.approx(nll, abs=1e-4, rel=1e-5), row
    for rule in ("acc", "acc_norm", "acc_bytes"):
        right = [
            canary_scoring.choose(mine["nll"], row["choices"], rule) == row["answer"]
            for mine, row in zip(ours, rows, strict=True)
        ]
        assert theirs[rule] == pytest.approx(np.mean(right))


def check_perplexities(model, tokenizer, texts):
    nll, tokens = perplexity.of_texts(model, tokenizer, texts)
    theirs = harness.perplexities(model, tokenizer, texts)
    assert nll == pytest.approx(theirs["nll"], abs=1e-4, rel=1e-5)
    assert theirs["bytes"] == [len(text.encode()) for text in texts]
    for name, sizes in (("word_perplexity", theirs["words"]), ("byte_perplexity", theirs["bytes"])):
        assert perplexity.perplexity(nll, sizes) == pytest.approx(theirs[name], rel=1e-4)
    bits = np.log2(perplexity.perplexity(nll, theirs["bytes"]))
    assert bits == pytest.approx(theirs["bits_per_byte"], rel=1e-4)
    assert perplexity.perplexity(nll, tokens) > theirs["byte_perplexity"]


def test_choices_are_the_harnesss(tiny, tokenizer):
    odd = [{**row, "id": str(i), "subject": "odd"} for i, row in enumerate(ODD)]
    check_choices(tiny, tokenizer, odd + canary.load()[::10])


def test_perplexities_are_the_harnesss(tiny, tokenizer):
    check_perplexities(tiny, tokenizer, TEXTS + [general.content(row) for row in general.load()[::17]])


@pytest.mark.slow
def test_the_base_model_scores_as_in_the_harness():
    model, tokenizer = base_model.load(base_model.BUNDLED, dtype="float32")
    check_choices(model, tokenizer, canary.load()[::10])
    check_perplexities(model, tokenizer, [general.content(row) for row in general.load()[::60]])


def test_it_leaves_everything_as_it_was_and_says_nothing(tiny, tokenizer, capfd):
    random.seed(5)
    torch.manual_seed(5)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    weights = {name: weight.clone() for name, weight in tiny.state_dict().items()}
    level = logging.getLogger("lm_eval").level
    tiny.train()
    harness.multiple_choice(tiny, tokenizer, canary.load()[:2])
    assert tiny.training and logging.getLogger("lm_eval").level == level
    after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    assert after == before
    assert all(torch.equal(weights[name], weight) for name, weight in tiny.state_dict().items())
    assert capfd.readouterr() == ("", "")


def test_no_rows_are_refused(tiny, tokenizer):
    for call in (harness.multiple_choice, harness.perplexities):
        with pytest.raises(LabError, match="has no rows"):
            call(tiny, tokenizer, [])


ONLINE = """
import os, socket
os.environ.pop("HF_HUB_OFFLINE", None)
import huggingface_hub.constants, datasets.config
huggingface_hub.constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = False
asked = []

def refuse(*where, **options):
    asked.append(where)
    raise OSError("no network here")

socket.getaddrinfo = socket.create_connection = socket.socket.connect = refuse

import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
from labsupport.evaluation import harness
from labsupport.models import base_model
from labsupport.tasks import canary

tokenizer = AutoTokenizer.from_pretrained(base_model.bundled_folder())
sizes = dict(hidden_size=32, intermediate_size=64, num_attention_heads=2, num_hidden_layers=1)
model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **sizes))
asked.clear()  # what transformers may have asked for
harness.multiple_choice(model, tokenizer, canary.load()[:2])
harness.perplexities(model, tokenizer, ["Some text."])
harness_asked = list(asked)
files = {"test": str(canary.FOLDER / "questions.jsonl")}
datasets.load_dataset("json", data_files=files, cache_dir=os.environ["FOLDER"])
print(harness_asked, len(asked) > 0)
"""


@pytest.mark.slow
def test_nothing_is_asked_of_any_server(tmp_path):
    """With the hub allowed: neither on import nor in a run. A dataset read by `datasets` from the same file
    does ask, which is why the harness gets the rows themselves; it also shows that asking would be seen."""
    assert fresh_process.run(ONLINE, FOLDER=str(tmp_path)) == "[] True"
