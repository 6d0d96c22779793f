"""labsupport/models/soft_prompts.py against PEFT's prompt and prefix tuning, on a tiny random Llama."""

import copy

import pytest
import torch
from peft import PrefixTuningConfig, PromptTuningConfig, get_peft_model
from tiny_training import tiny_model

from labsupport.core.files import LabError
from labsupport.models import soft_prompts
from labsupport.sizes import counting

TOKENS = 5
IDS = torch.arange(24).view(2, 12)
MASK = torch.ones_like(IDS)
MASK[1, 8:] = 0
LABELS = IDS.masked_fill(MASK == 0, -100)


def close(a, b, limit=1e-6):
    return (a - b).abs().max() <= limit * b.abs().max()


def both(config):
    """The model alone, frozen, and PEFT's with that config, whose vectors are those returned."""
    plain = tiny_model(vocab_size=101).eval().requires_grad_(False)
    theirs = get_peft_model(copy.deepcopy(plain), config).eval()
    (weight,) = (p for p in theirs.parameters() if p.requires_grad)
    return plain, theirs, weight


def test_prompt_equals_pefts():
    plain, theirs, weight = both(PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=TOKENS))
    assert weight.numel() == counting.prompt_tuning(plain.config.to_dict(), TOKENS)
    prompt = weight.detach().clone().requires_grad_()
    embeddings = plain.get_input_embeddings()(IDS)
    mine = plain(**soft_prompts.with_prompt(prompt, embeddings, MASK, LABELS))
    other = theirs(input_ids=IDS, attention_mask=MASK, labels=LABELS)
    mine.loss.backward(), other.loss.backward()
    assert mine.logits.shape == (2, TOKENS + 12, 101)
    assert close(mine.logits, other.logits) and close(mine.loss, other.loss)
    assert close(prompt.grad, weight.grad)


def test_prefix_equals_pefts():
    plain, theirs, weight = both(PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=TOKENS))
    assert weight.numel() == counting.prefix_tuning(plain.config.to_dict(), TOKENS)
    # PEFT has a row for each position: of each layer its keys, then its values.
    parts = weight.detach().view(TOKENS, 2, 2, 2, 8)  # two layers, keys and values, two heads
    prefix = parts.permute(1, 2, 3, 0, 4).clone().requires_grad_()
    mine = plain(input_ids=IDS, labels=LABELS, **soft_prompts.with_prefix(prefix, MASK))
    other = theirs(input_ids=IDS, attention_mask=MASK, labels=LABELS)
    mine.loss.backward(), other.loss.backward()
    assert mine.logits.shape == (2, 12, 101)
    assert close(mine.logits, other.logits) and close(mine.loss, other.loss)
    assert close(prefix.grad.permute(3, 0, 1, 2, 4).reshape(weight.shape), weight.grad)


def test_the_prompt_is_attended_to_and_has_no_label():
    given = (torch.randn(TOKENS, 32), torch.randn(2, 12, 32), MASK, LABELS)
    made = soft_prompts.with_prompt(*given)
    assert made["attention_mask"].sum(1).tolist() == [TOKENS + 12, TOKENS + 8]
    assert made["labels"][:, :TOKENS].eq(-100).all() and made["labels"].dtype == torch.int64


def test_a_prompt_of_another_width():
    with pytest.raises(LabError, match="31 wide and the embeddings 32"):
        soft_prompts.with_prompt(torch.randn(5, 31), torch.randn(2, 12, 32), MASK, LABELS)


def test_a_prefix_of_another_shape():
    with pytest.raises(LabError, match=r"\(2, 3, 4\)"):
        soft_prompts.with_prefix(torch.randn(2, 3, 4), MASK)
