"""Notebook 06's drawing and questions say what the course's tokenizer and masks do."""

import re

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM
from trl import SFTConfig, SFTTrainer

from labsupport.chat_formats import loss_masks, templates
from labsupport.core.files import ROOT
from labsupport.notebooks.nb06_chat_templates import exercises, questions, schematic

MASTER = ROOT / "solutions" / "06_chat_templates.py"
IN_SCOPE = {
    each.__name__: each for each in (torch, Dataset, AutoModelForCausalLM, SFTConfig, SFTTrainer)
}  # what the notebook imports
SNIPPET = re.compile(r"^(def (snippet_\d)\(.*\):\n)((?: +#(?: .*)?\n)+?) +### BEGIN SOLUTION", re.MULTILINE)


def test_the_drawing_shows_the_ids_and_labels_that_there_are(tokenizer):
    talk = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    ids = tokenizer.apply_chat_template(talk)["input_ids"][-len(schematic.ROW) :]
    labels = loss_masks.assistant_labels(ids, *loss_masks.header_and_end(tokenizer, templates.load("chatml")))
    assert [row[1] for row in schematic.ROW] == ids
    assert [row[3] for row in schematic.ROW] == [label != -100 for label in labels]
    shown = [tokenizer.decode([i]).replace("\n", "↵") for i in ids]
    assert [row[0] for row in schematic.ROW] == shown


def test_the_share_is_that_of_a_real_row(tokenizer):
    """Headers and what follows a message are as long as the question says."""
    template = templates.load("chatml")
    assert loss_masks.header_and_end(tokenizer, template) == (questions.OPENING, questions.END)
    empty = [
        {"role": "system", "content": ""},
        {"role": "user", "content": ""},
        {"role": "assistant", "content": ""},
    ]
    assert len(tokenizer.apply_chat_template(empty)["input_ids"]) == (3 + 2) + (3 + 2) + (4 + 2)
    assert questions._share() == pytest.approx(100 * 52 / 156)


def test_the_notebooks_broken_snippets_do_not_run():
    """What stands there as a comment, taken as it is, raises; none runs and is only wrong."""
    found = SNIPPET.findall(MASTER.read_text(encoding="utf-8"))
    assert [name for _, name, _ in found] == [f"snippet_{number}" for number in range(1, 6)]
    for head, name, comment in found:
        body = re.sub(r"(?m)^( +)# ?", r"\1", comment)
        scope = dict(IN_SCOPE)
        exec(head + body, scope)
        result = getattr(exercises, name).check(scope[name])
        assert re.match(r"It raised (TypeError|ImportError|AttributeError)\b", result.message), (name, result)
