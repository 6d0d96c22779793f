"""Replay of other general text in every epoch: the arm `replay` of the experiment `forgetting`, and fresh.

There the same 11 passages come back in each of the 8 epochs. Here all 24 passages that no score uses are cut
into pieces of at most 96 tokens, and each epoch takes the next 11 of them, so that no piece is seen more than
twice. Everything else, rows, steps, learning rate 2e-3, seed and scores, is as there. One thread.
"""

from __future__ import annotations

from labsupport.experiments import forgetting_experiment

CELLS = [{"arm": "replay", "learning_rate": 2e-3, "seed": 0}]


def run(cell: dict) -> dict:
    """As in `forgetting`, with the number of pieces and of tokens in them."""
    import torch

    from labsupport.core import upstream
    from labsupport.evaluation import general_text
    from labsupport.models import base_model

    upstream.keep_freed_memory()
    upstream.score_only_labels()
    torch.set_num_threads(1)
    model, tokenizer = base_model.load(dtype="float32")
    scored, _ = general_text.held_out(forgetting_experiment.general_passages())
    with general_text.mixed_precision():
        before = general_text.logits(model, tokenizer, scored)
    scorer = forgetting_experiment.Scorer(tokenizer, scored, before)
    trainer = forgetting_experiment.trainer_of(cell, model, tokenizer)
    rows = FreshRows(forgetting_experiment.training_rows(tokenizer, replay=False), pieces(tokenizer))
    trainer.train_dataset = rows
    scores, validation = {}, {}
    trainer.add_callback(counting(rows))
    trainer.add_callback(forgetting_experiment.after_each_epoch(scorer, scores, validation))
    trainer.train()
    return {
        "rows": len(rows),
        "pieces": len(rows.pieces),
        "piece_tokens": sum(len(piece["input_ids"]) for piece in rows.pieces),
        "steps": trainer.state.global_step,
        "validation": validation,
        "scores": {str(epoch): found for epoch, found in scores.items()},
    }


def pieces(tokenizer) -> list[dict]:
    """The passages for replay in pieces, as token ids and labels, first pieces first; of a passage's first
    piece the tokens before its first scored one have no label."""
    from labsupport.evaluation import general_text
    from labsupport.models import chat
    from labsupport.tasks import general

    size, found = forgetting_experiment.REPLAY_TOKENS, []
    for row in general_text.held_out(forgetting_experiment.general_passages())[1]:
        ids, first = general.encode(row, tokenizer)
        for start in range(0, len(ids), size):
            piece = ids[start : start + size]
            labels = chat.labels(piece, first if start == 0 else 1)
            if len(piece) >= size // 4:  # the rest of a passage may be a few tokens
                found.append((start, {"input_ids": piece, "labels": labels}))
    return [piece for _, piece in sorted(found, key=lambda pair: pair[0])]


class FreshRows:
    """A data set of the same ticket rows and, in each epoch, of the next REPLAYED pieces. epoch: counted
    from 0, set from outside."""

    def __init__(self, tickets: list[dict], pieces: list[dict]):
        self.tickets, self.pieces, self.epoch = tickets, pieces, 0

    def __len__(self) -> int:
        return len(self.tickets) + forgetting_experiment.REPLAYED

    def __getitem__(self, index: int) -> dict:
        if index < len(self.tickets):
            return self.tickets[index]
        place = self.epoch * forgetting_experiment.REPLAYED + index - len(self.tickets)
        return self.pieces[place % len(self.pieces)]


def counting(rows: FreshRows):
    """A callback that tells the rows which epoch it is."""
    from transformers import TrainerCallback

    class Counting(TrainerCallback):
        def on_epoch_begin(self, args, state, control, **others):
            rows.epoch = round(state.epoch)

    return Counting()
