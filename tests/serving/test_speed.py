"""What `speed` times: the same prompt for all in turns, and of a reply exactly the tokens asked for."""

import pytest
import torch

from labsupport.models import tiny_base
from labsupport.serving import speed


class Slow(torch.nn.Module):
    """Takes 100 seconds for a prompt and so many for each token, by its own clock; a first time twice."""

    now = 0.0

    def __init__(self, seconds: float, asked: list):
        super().__init__()
        self.seconds, self.asked, self.times = seconds, asked, 2

    def generate(self, input_ids, attention_mask, do_sample, min_new_tokens, max_new_tokens):
        assert min_new_tokens == max_new_tokens and not do_sample
        self.asked.append((self.seconds, tuple(input_ids.shape)))
        Slow.now += 100 + self.times * self.seconds * max_new_tokens
        self.times = 1 if max_new_tokens > 1 else self.times  # warm after its first whole reply


def test_a_token_costs_what_it_adds_once_the_model_is_warm(monkeypatch):
    monkeypatch.setattr(speed.time, "process_time", lambda: Slow.now)
    asked: list = []
    models = {"slow": Slow(3, asked), "quick": Slow(1, asked)}
    assert speed.seconds_a_token(models, 64, tokens=5, rounds=2) == pytest.approx({"slow": 3, "quick": 1})
    assert {shape for _, shape in asked} == {(1, 64)}
    assert [seconds for seconds, _ in asked] == [3, 3, 1, 1] * 2  # in turns


def test_a_real_model_writes_all_the_tokens_and_stops_at_no_end(monkeypatch):
    model, _ = tiny_base.load()
    model.generation_config.eos_token_id = list(range(1, model.config.vocab_size))  # of any reply
    lengths = []
    generate = model.generate

    def noted(**options):
        lengths.append(generate(**options).shape[1])

    monkeypatch.setattr(model, "generate", noted)
    speed.seconds_a_token({"tiny": model}, 8, tokens=4, rounds=2)
    assert lengths == [9, 13] * 2
