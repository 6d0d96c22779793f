"""What a fine-tune does to refusing: answers from a shop's policy, with and without refusals to learn from.

The task is data/policy: a question and a policy snippet; the model answers from the snippet in one sentence,
or writes that it cannot where the snippet does not say. Arms, each of 234 visits to a row in 29 steps of 8:
- with_refusals: 234 training rows, a third of them refusals, once;
- answers_only: the 156 training rows that can be answered, one and a half times: no refusal among them;
- untuned: the model as it is, seed 0 only.
The course's adapters (rank 16, alpha 32, all linear layers), learning rate 2e-3.

Greedy replies of at most 48 tokens to the 120 test rows, whose policies are in no training row, judged by the
rules of labsupport/tasks/policy_judge.py: right, refused, invented. One thread, two seeds.
"""

from __future__ import annotations

VISITS, BATCH, LONGEST = 234, 8, 48
CELLS = [{"arm": "untuned", "seed": 0}]
CELLS += [{"arm": arm, "seed": seed} for seed in (0, 1) for arm in ("with_refusals", "answers_only")]


def run(cell: dict) -> dict:
    """The log and, for each test row, the reply and its judgement."""
    import torch

    from labsupport.core import profiles, upstream
    from labsupport.evaluation import scoring
    from labsupport.models import base_model
    from labsupport.tasks import policy

    upstream.keep_freed_memory()
    torch.set_num_threads(1)
    model, tokenizer = base_model.load()
    result: dict = {"dtype": profiles.current().dtype}
    if cell["arm"] != "untuned":
        trainer = trainer_of(cell, model, tokenizer)
        trainer.train()
        model = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
        losses = {e["step"]: e["loss"] for e in trainer.state.log_history if "loss" in e}
        result |= {"loss": {str(step): round(float(loss), 4) for step, loss in losses.items()}}
    rows = policy.load("test")
    prompts = [
        tokenizer.apply_chat_template(policy.prompt(row), add_generation_prompt=True, return_dict=True)
        for row in rows
    ]
    replies = scoring.replies(model, tokenizer, [p["input_ids"] for p in prompts], LONGEST, 8)
    result["test"] = [
        {"id": row["id"], "reply": reply} | policy.judge(row, reply)
        for row, reply in zip(rows, replies, strict=True)
    ]
    return result


def training_rows(arm: str, seed: int) -> list[dict]:
    """VISITS rows of the arm in the order of training; all arms draw from the same shuffled rows."""
    import random

    from labsupport.tasks import policy

    rows = policy.load("train")
    random.Random(seed).shuffle(rows)
    if arm == "answers_only":
        rows = [row for row in rows if row["answerable"]]
        rows = rows + rows
    return rows[:VISITS]


def trainer_of(cell: dict, model, tokenizer):
    """An untrained SFTTrainer of the arm."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import PrinterCallback
    from trl import SFTConfig, SFTTrainer

    from labsupport.core import files, profiles, upstream
    from labsupport.tasks import policy
    from labsupport.training import prefixes

    upstream.score_only_labels()
    torch.manual_seed(cell["seed"])  # decides the adapters' first weights
    rows = training_rows(cell["arm"], cell["seed"])
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            output_dir=str(files.RUNS / "trainer"),
            learning_rate=2e-3,
            num_train_epochs=1,
            lr_scheduler_type="cosine",
            warmup_steps=0.1,
            adam_beta1=0.6,
            adam_beta2=0.95,
            per_device_train_batch_size=BATCH,
            max_length=512,
            activation_checkpointing=False,
            use_cpu=True,
            bf16=profiles.current().bf16,
            logging_steps=4,
            logging_first_step=True,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            seed=cell["seed"],
        ),
        train_dataset=Dataset.from_list(policy.as_prompt_completion(rows)),
        processing_class=tokenizer,
        peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    trainer.remove_callback(PrinterCallback)
    prefixes.share(trainer)
    return trainer
