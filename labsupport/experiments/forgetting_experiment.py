"""What the model forgets while it learns the ticket task for eight epochs, and what it gains meanwhile.

Each arm trains on the same 64 rows of different families, 8 epochs of 8 steps of 8 rows:
- lora: the course's adapters (rank 16, alpha 32, all linear layers), learning rate 2e-3 and 5e-4;
- full: every weight of the model, embeddings too, learning rate 2e-4, a tenth of LoRA's;
- replay: lora, learning rate 2e-3, with general text mixed in: 11 passages of at most 96 tokens an epoch,
  which is 15 % of the rows. They are of the same kinds and by the same writer as the passages that are
  scored, and none of them is: about the best that replay can hope for.
Weights in float32, products in bfloat16, in training and in scoring. Learning rate: cosine with 10 % warm-up
over all eight epochs.

Scored before training and after epochs 1, 3, 5 and 8. Of test_lookalike one row of each family (144) and
every third row of test_production (67): negative log-likelihood of the right answer in nats by field, and
whether every token of it was the first choice (exact). Of general text (96 passages of data/general, the
tokens counted in the record): NLL and KL(before ‖ after) in nats, summed by passage. Of the canary's 120
questions: which were answered right. After every epoch besides: one row of each family of validation (64).
One thread, one seed.
"""

from __future__ import annotations

ROWS, EPOCHS, BATCH = 64, 8, 8
SCORED = (1, 3, 5, 8)
REPLAYED, REPLAY_TOKENS = 11, 96
ARMS = (("lora", 2e-3), ("lora", 5e-4), ("full", 2e-4), ("replay", 2e-3))
CELLS = [{"arm": arm, "learning_rate": rate, "seed": 0} for arm, rate in ARMS]


def run(cell: dict) -> dict:
    """The log, and the scores of the untrained model (epoch 0) and after each scored epoch."""
    import torch

    from labsupport.core import upstream
    from labsupport.evaluation import general_text
    from labsupport.models import base_model

    upstream.keep_freed_memory()
    upstream.score_only_labels()
    torch.set_num_threads(1)
    model, tokenizer = base_model.load(dtype="float32")
    with general_text.mixed_precision():
        passages, _ = general_text.held_out(general_passages())
        before = general_text.logits(model, tokenizer, passages)
    scorer = Scorer(tokenizer, passages, before)
    scores = {0: scorer.everything(model)} if cell["arm"] == "lora" and cell["seed"] == 0 else {}
    trainer = trainer_of(cell, model, tokenizer)
    validation = {}
    trainer.add_callback(after_each_epoch(scorer, scores, validation))
    trainer.train()
    losses = [entry for entry in trainer.state.log_history if "loss" in entry]
    return {
        "rows": len(trainer.train_dataset),
        "steps": trainer.state.global_step,
        "trained_tokens": sum(label != -100 for row in trainer.train_dataset["labels"] for label in row),
        "loss": {str(entry["step"]): round(float(entry["loss"]), 4) for entry in losses},
        "validation": validation,
        "scores": {str(epoch): found for epoch, found in scores.items()},
    }


def general_passages() -> list[dict]:
    """The passages of data/general, in the file's order."""
    from labsupport.tasks import general

    return general.load()


def trainer_of(cell: dict, model, tokenizer):
    """An untrained SFTTrainer of the arm."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import PrinterCallback
    from trl import SFTConfig, SFTTrainer

    from labsupport.core import files
    from labsupport.training import prefixes

    adapters = None
    if cell["arm"] != "full":
        adapters = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    torch.manual_seed(cell["seed"])  # decides the adapters' first weights
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            output_dir=str(files.RUNS / "trainer"),
            learning_rate=cell["learning_rate"],
            num_train_epochs=EPOCHS,
            lr_scheduler_type="cosine",
            warmup_steps=0.1,
            adam_beta1=0.6,
            adam_beta2=0.95,
            per_device_train_batch_size=BATCH,
            max_length=256,
            activation_checkpointing=False,
            use_cpu=True,
            bf16=True,
            logging_steps=4,
            logging_first_step=True,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            seed=cell["seed"],
        ),
        train_dataset=Dataset.from_list(training_rows(tokenizer, cell["arm"] == "replay")),
        processing_class=tokenizer,
        peft_config=adapters,
    )
    trainer.remove_callback(PrinterCallback)
    prefixes.share(trainer)
    return trainer


def training_rows(tokenizer, replay: bool) -> list[dict]:
    """The rows as token ids and labels. Trained: the answers, and of a passage what would be scored."""
    from labsupport.evaluation import general_text
    from labsupport.models import chat
    from labsupport.tasks import general, tickets

    examples = [chat.encode_example(tokenizer, row) for row in tickets.load("train")[:ROWS]]
    rows = [{"input_ids": e.ids, "labels": chat.labels(e.ids, e.prompt_length)} for e in examples]
    if replay:
        for row in general_text.held_out(general_passages())[1][::2][:REPLAYED]:
            ids, first = general.encode(row, tokenizer)
            ids = ids[:REPLAY_TOKENS]
            rows.append({"input_ids": ids, "labels": chat.labels(ids, first)})
    return rows


class Scorer:
    """Scores a model on everything the experiment looks at."""

    def __init__(self, tokenizer, passages: list[dict], before: list):
        self.tokenizer, self.passages, self.before = tokenizer, passages, before

    def everything(self, model) -> dict:
        """Both test sets, general text, canary."""
        from labsupport.evaluation import canary_scoring, general_text
        from labsupport.format_runs import prompt_formats

        with general_text.mixed_precision():
            found = {name: self.tickets(model, rows) for name, rows in prompt_formats.test_sets().items()}
            general = general_text.compared(model, self.tokenizer, self.passages, self.before)
            canary = canary_scoring.score(model, self.tokenizer)
        found["general"] = {
            "id": [row["id"] for row in general],
            "tokens": [row["tokens"] for row in general],
            "nll": [round(row["nll"], 2) for row in general],
            "kl": [round(row["kl"], 3) for row in general],
        }
        return found | {"canary": [int(row["right"]) for row in canary]}

    def tickets(self, model, rows: list[dict]) -> dict[str, list]:
        """Columns over the rows: id, exact, nll of the whole answer and its end, nll of each field."""
        from labsupport.evaluation import scoring
        from labsupport.tasks import tickets

        scores = scoring.score(model, self.tokenizer, rows, batch_size=8)
        columns = {part: [round(s["nll"][part], 3) for s in scores] for part in ("all", *tickets.FIELDS)}
        return {"id": [row["id"] for row in rows], "exact": [int(s["exact"]) for s in scores]} | columns

    def validation(self, model) -> dict[str, float]:
        """Means over one row of each family of validation: nll of the whole answer (nats), share exact."""
        from labsupport.evaluation import general_text
        from labsupport.tasks import tickets

        rows = tickets.one_of_each_family(tickets.load("validation"))
        with general_text.mixed_precision():
            found = self.tickets(model, rows)
        return {
            "nll": round(sum(found["all"]) / len(rows), 4),
            "exact": round(sum(found["exact"]) / len(rows), 4),
        }


def after_each_epoch(scorer: Scorer, scores: dict, validation: dict):
    """A callback that fills `validation` after every epoch and `scores` after those of SCORED."""
    from transformers import TrainerCallback

    class AfterEachEpoch(TrainerCallback):
        def on_epoch_end(self, args, state, control, model=None, **others):
            epoch = round(state.epoch)
            validation[str(epoch)] = scorer.validation(model)
            if epoch in SCORED:
                scores[epoch] = scorer.everything(model)

    return AfterEachEpoch()
