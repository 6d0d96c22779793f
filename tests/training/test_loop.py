"""The loop written out is the trainer's, and a run stopped early is the beginning of the whole one."""

import itertools

import pytest
import torch
from tiny_training import tiny_trainer

from labsupport.training import loop

pytestmark = pytest.mark.slow
SETTINGS = {"lora": {"lora_dropout": 0.0}, "steps": 5, "warmup_steps": 0.4, "adam_beta1": 0.6}


def losses(trainer) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def test_the_loop_has_the_trainers_losses(tokenizer, tmp_path):
    torch.manual_seed(0)
    trainer = tiny_trainer(tokenizer, output_dir=str(tmp_path), **SETTINGS)
    trainer.train()
    rates = [entry["learning_rate"] for entry in trainer.state.log_history if "loss" in entry]
    torch.manual_seed(0)
    same = tiny_trainer(tokenizer, output_dir=str(tmp_path), **SETTINGS)
    batches = list(itertools.islice(same.get_train_dataloader(), len(rates)))
    own = loop.train(same.model.train(), batches, rates, (0.6, 0.999))
    assert own == pytest.approx(losses(trainer), rel=1e-5) and len(set(rates)) == 5


def test_a_run_stopped_early_is_the_beginning_of_the_whole(tokenizer, tmp_path):
    found = []
    for callbacks in ([], [loop.StopAfter(3)]):
        torch.manual_seed(0)  # decides the adapters' first weights
        trainer = tiny_trainer(tokenizer, output_dir=str(tmp_path), **SETTINGS)
        for callback in callbacks:
            trainer.add_callback(callback)
        trainer.train()
        found.append(losses(trainer))
    assert found[1] == found[0][:3]
