"""Perplexity and likelihood-scored choice by hand, and the metrics that scikit-learn has as well."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics
from transformers import LlamaConfig, LlamaForCausalLM

from labsupport.core.files import LabError
from labsupport.evaluation import canary_scoring, metrics, perplexity
from labsupport.tasks import tickets

laws = settings(max_examples=100)


@pytest.fixture(scope="module")
def model(tokenizer):
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 2}
    config = LlamaConfig(
        vocab_size=len(tokenizer), initializer_range=0.2, max_position_embeddings=64, **sizes
    )
    return LlamaForCausalLM(config)


# ---------------------------------------------------------------- perplexity


@laws
@given(st.integers(2, 10**6), st.lists(st.integers(1, 400), min_size=1, max_size=20))
def test_a_blind_guess_among_so_many_tokens_has_that_perplexity(choices, tokens):
    nll = [count * math.log(choices) for count in tokens]
    assert perplexity.perplexity(nll, tokens) == pytest.approx(choices, rel=1e-9)


@laws
@given(st.lists(st.tuples(st.floats(0, 50), st.integers(1, 30)), min_size=1, max_size=20), st.randoms())
def test_it_does_not_matter_how_tokens_are_put_into_rows(rows, random):
    nll, tokens = map(list, zip(*rows, strict=True))
    random.shuffle(rows)
    cut = random.randint(0, len(rows))
    parts = [part for part in (rows[:cut], rows[cut:]) if part]
    joined = [[sum(column) for column in zip(*part, strict=True)] for part in parts]
    whole = perplexity.perplexity(*map(list, zip(*joined, strict=True)))
    assert whole == pytest.approx(perplexity.perplexity(nll, tokens))


def test_it_is_the_exponential_of_a_causal_models_loss(model, tokenizer):
    """transformers' loss of one row is the mean over what is predicted, which is all but the first token."""
    texts = ["The shop opens at nine.", "Zürich", "x = [1, 2, 3]\nprint(x)"]
    nll, tokens = perplexity.of_texts(model, tokenizer, texts)
    for text, row_nll, row_tokens in zip(texts, nll, tokens, strict=True):
        ids = torch.tensor([[tokenizer.bos_token_id, *tokenizer(text)["input_ids"]]])
        with torch.no_grad():
            loss = model(input_ids=ids, labels=ids).loss.item()
        assert row_tokens == ids.shape[1] - 1
        assert perplexity.perplexity([row_nll], [row_tokens]) == pytest.approx(math.exp(loss), rel=1e-4)
    assert model.training  # left as it was


@pytest.mark.parametrize(
    ("texts", "words"), [(["a", ""], "Text 1 is empty"), (["word " * 80], "the model's window 64")]
)
def test_texts_without_a_perplexity_are_refused(model, tokenizer, texts, words):
    with pytest.raises(LabError, match=words):
        perplexity.of_texts(model, tokenizer, texts)


def test_no_tokens_no_perplexity():
    for nothing in ([], [0, 0]):
        with pytest.raises(LabError, match="No token"):
            perplexity.perplexity([0.0] * len(nothing), nothing)


# ---------------------------------------------------------------- a choice by likelihood


def test_three_rules_can_choose_three_answers():
    nll, choices = [4.0, 9.0, 8.0], ["ox", "elephant", "étés"]
    assert canary_scoring.choose(nll, choices) == 0  # the smallest sum
    assert canary_scoring.choose(nll, choices, "acc_norm") == 1  # 9 / 8 characters
    nll = [4.0, 9.0, 6.6]
    assert canary_scoring.choose(nll, choices, "acc_norm") == 1  # 6.6 / 4
    assert canary_scoring.choose(nll, choices, "acc_bytes") == 2  # 6.6 / 6


def test_the_canarys_own_choice_is_the_rule_acc(model, tokenizer):
    from labsupport.tasks import canary

    rows = canary.load()[:6]
    for row, result in zip(rows, canary_scoring.score(model, tokenizer, rows), strict=True):
        assert canary_scoring.choose(result["nll"], row["choices"]) == result["chosen"]


def test_an_unknown_rule_is_named():
    with pytest.raises(LabError, match="no rule 'acc_tokens'"):
        canary_scoring.choose([1.0], ["a"], "acc_tokens")


# ---------------------------------------------------------------- what scikit-learn has as well

LABELS = st.lists(st.tuples(*[st.sampled_from([None, "tent", "rope", "stove"])] * 2), min_size=1, max_size=40)


@laws
@given(LABELS)
def test_f1_is_scikit_learns_micro_f1_over_the_values(pairs):
    """scikit-learn leaves None out of the claims by `labels`: all values but None."""
    predicted, expected = ([str(value) for value in column] for column in zip(*pairs, strict=True))
    values = sorted({*predicted, *expected} - {"None"})
    ours = metrics.f1(*map(list, zip(*pairs, strict=True)))
    if not values:
        assert math.isnan(ours)
        return
    theirs = sklearn_metrics.f1_score(expected, predicted, labels=values, average="micro", zero_division=0)
    assert ours == pytest.approx(theirs)


@laws
@given(st.lists(st.tuples(*[st.sampled_from("abc")] * 2), min_size=1, max_size=40))
def test_where_nothing_is_none_f1_is_the_accuracy(pairs):
    predicted, expected = map(list, zip(*pairs, strict=True))
    assert metrics.f1(predicted, expected) == pytest.approx(
        sklearn_metrics.accuracy_score(expected, predicted)
    )


def test_exact_match_is_scikit_learns_accuracy_of_whole_labels():
    rows = tickets.load("validation")[:40]
    replies = [tickets.answer(row) for row in rows[1:]] + ["no JSON"]
    wholes = [[tickets.answer(row) for row in rows], replies]  # the same values, the same text
    assert metrics.exact_match(rows, replies).mean() == pytest.approx(sklearn_metrics.accuracy_score(*wholes))
