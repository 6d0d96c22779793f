"""Tokenizer, packing, the first weights and the loop behind data/tiny_base, on a small scale."""

import pytest
import torch

from labsupport.models import tiny_base
from labsupport.pretraining import building, first_weights, training


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_base.load()[1]


def test_documents_stay_whole_in_their_sequence():
    documents = [[i] * length for i, length in enumerate([50, 30, 70, 20, 64, 10, 45] * 20)]
    sequences = training.packed(documents, 100)
    assert sorted(token for row in sequences for token in row) == sorted(t for d in documents for t in d)
    assert max(map(len, sequences)) <= 100
    assert sum(map(len, sequences)) > 0.85 * 100 * len(sequences)
    places = {}
    for row in sequences:
        for place, token in enumerate(row):
            places.setdefault(token, []).append((id(row), place))
    for found in places.values():
        assert {row for row, _ in found} == {found[0][0]}
        assert [place for _, place in found] == list(range(found[0][1], found[0][1] + len(found)))


def test_padding_is_not_learned():
    ids, labels = training.tensors([[5, 6], [7, 8, 9]], 4, pad=2)
    assert ids.tolist() == [[5, 6, 2, 2], [7, 8, 9, 2]]
    assert labels.tolist() == [[5, 6, -100, -100], [7, 8, 9, -100]]


def test_the_rate_goes_up_stays_and_ends_near_nothing():
    rates = [training.rate_at(step, 1000) for step in range(1000)]
    assert rates[0] == 1 / training.WARMUP and max(rates) == 1 and 0 < rates[-1] < 0.01
    assert rates[training.WARMUP : 590] == [1.0] * (590 - training.WARMUP)


def test_the_first_weights_copy_what_the_same_model_without_them_does_not(tokenizer):
    """Random tokens twice: in the second half the right one is known from the first."""
    generator = torch.Generator().manual_seed(0)
    half = torch.randint(300, 2048, (16, 24), generator=generator)
    ids = torch.cat([half, half], 1)

    def right(model) -> float:
        with torch.no_grad():
            choices = model(ids).logits[:, 24:-1].argmax(-1)
        return (choices == ids[:, 25:]).float().mean().item()

    model = training.new_model(tokenizer)
    assert right(model) > 0.2
    model.model.layers[0].self_attn.o_proj.weight.data.zero_()
    assert right(model) < 0.02


def test_the_same_steps_give_the_same_weights(tokenizer):
    def trained():
        generator = torch.Generator().manual_seed(3)
        steps = [training.tensors(torch.randint(3, 2048, (2, 16), generator=generator).tolist(), 16, 2)] * 3
        model, log = building.trained(tokenizer, steps)
        return model.state_dict(), [{k: v for k, v in e.items() if k != "seconds"} for e in log]

    (first, log), (second, same_log) = trained(), trained()
    assert log == same_log and log[-1]["tokens"] == 3 * 2 * 15
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_answers_right_counts_answers_whose_every_token_is_the_first_choice(tokenizer):
    class Parrot(torch.nn.Module):
        """Its first choice is the token that stands next, but for one place."""

        def __init__(self, ids, wrong_at=None):
            super().__init__()
            self.next = [*ids[1:], 0]
            if wrong_at is not None:
                self.next[wrong_at] = 3

        def forward(self, input_ids, use_cache):
            from types import SimpleNamespace

            return SimpleNamespace(
                logits=torch.nn.functional.one_hot(torch.tensor([self.next]), 2048).float()
            )

    chat = [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "alpha"},
        {"role": "user", "content": "two"},
        {"role": "assistant", "content": "beta"},
    ]
    ids = tokenizer(tokenizer.apply_chat_template(chat, tokenize=False))["input_ids"]
    assert training.answers_right(Parrot(ids), tokenizer, [ids]) == 1
    last_end = max(i for i, token in enumerate(ids) if token == tokenizer.eos_token_id)
    assert training.answers_right(Parrot(ids, last_end - 1), tokenizer, [ids]) == 0.5
    assert training.answers_right(Parrot(ids, 1), tokenizer, [ids]) == 1


def test_the_circuit_needs_room():
    assert 1 + 2 * training.SHAPE["num_key_value_heads"] * 32 <= training.SHAPE["hidden_size"]
    directions = first_weights.directions(16, torch.Generator().manual_seed(0))
    assert torch.allclose(directions @ directions.T, torch.eye(16), atol=1e-5)
