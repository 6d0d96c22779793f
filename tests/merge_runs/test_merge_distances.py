"""Distances between two models on right answers."""

import copy

import pytest
import torch

from labsupport.format_runs import prompt_formats
from labsupport.merge_runs import distances, routes
from labsupport.tasks import tickets


@pytest.fixture(scope="module")
def rows():
    return tickets.load("test_lookalike")[:3]


def test_a_model_is_no_distance_from_itself(base, adapter, tokenizer, rows):
    model, examples = routes.unmerged(base, adapter), distances.examples(tokenizer, rows)
    trained = distances.logits(model, tokenizer, examples)
    own = distances.compared(model, tokenizer, examples, trained)
    assert own["kl"] == [0, 0, 0] and own["same"] == own["tokens"] == [len(e.targets) for e in examples]
    scored = prompt_formats.scored(model, tokenizer, "template", rows)
    for i, nll in enumerate(own["nll"]):
        assert nll == pytest.approx(sum(scored[column][i] for column in prompt_formats.COLUMNS), abs=1e-3)
    other = distances.compared(routes.into_float32(base, adapter), tokenizer, examples, trained)
    assert min(other["kl"]) > 1e-5
    merged = distances.compared(routes.dequantised(base, adapter), tokenizer, examples, trained)
    assert max(merged["kl"]) < 1e-6


def test_distance_of_two_known_distributions():
    trained, own = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.25, 0.75]]).log()
    found = distances.distance(torch.tensor([1]), own, trained)
    assert found["kl"] == pytest.approx(0.5 * torch.tensor(4 / 3).log().item(), rel=1e-3)
    assert found["nll"] == pytest.approx(0.2877, abs=1e-4)
    assert (found["exact"], found["same"], found["tokens"]) == (1, 0, 1)


def test_written_ids_end_with_the_end_token(base, adapter, tokenizer, rows):
    model = routes.unmerged(base, adapter)
    first = distances.written(model, tokenizer, rows, longest=5)
    assert [len(reply) for reply in first] == [5, 5, 5]
    other = copy.deepcopy(tokenizer)
    other.eos_token = tokenizer.convert_ids_to_tokens(first[0][1])  # now a reply ends where that is written
    reply = distances.written(model, other, rows[:1], longest=5)[0]
    assert reply == first[0][: first[0].index(other.eos_token_id) + 1]


def test_replies_are_alike_if_all_ids_are():
    assert distances.alike([[1, 2], [3], [4, 5]], [[1, 2], [3, 0], [4, 6]]) == [1, 0, 0]
