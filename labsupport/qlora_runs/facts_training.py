"""tiny_base made to learn facts by heart, with TRL's trainer: short runs for sweeps of many."""

from __future__ import annotations

import torch

from labsupport.tasks import facts

BATCH = 8
BASE = "data/tiny_base"


def trainer(count: int, rate: float, epochs: int, seed: int):
    """An untrained SFTTrainer of tiny_base on the first `count` facts: rank 16, alpha 32, all linear layers,
    float32 throughout, the loss of every step logged."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import PrinterCallback
    from trl import SFTConfig, SFTTrainer

    from labsupport.core import files, upstream
    from labsupport.models import base_model

    upstream.score_only_labels()
    model, tokenizer = base_model.load(BASE, dtype="float32", device="cpu")
    torch.manual_seed(seed)  # decides the adapters' first weights
    result = SFTTrainer(
        model=model,
        args=SFTConfig(
            output_dir=str(files.RUNS / "trainer"),
            learning_rate=rate,
            num_train_epochs=epochs,
            lr_scheduler_type="cosine",
            warmup_steps=0.1,
            per_device_train_batch_size=BATCH,
            max_length=256,
            activation_checkpointing=False,
            use_cpu=True,
            bf16=False,
            logging_steps=1,
            report_to="none",
            disable_tqdm=True,
            save_strategy="no",
            seed=seed,
        ),
        train_dataset=Dataset.from_list(facts.as_prompt_completion(facts.load(count))),
        processing_class=tokenizer,
        peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    result.remove_callback(PrinterCallback)
    return result


@torch.no_grad()
def nats(trainer, count: int) -> list[float]:
    """NLL of each fact's code in nats, without the tokens that end the answer, (count,)."""
    model, tokenizer = trainer.accelerator.unwrap_model(trainer.model), trainer.processing_class
    model.eval()
    found = []
    for row in facts.load(count):
        front = tokenizer.apply_chat_template(
            facts.prompt(row["key"]), add_generation_prompt=True, return_dict=True, return_tensors="pt"
        )["input_ids"]
        code = tokenizer(facts.answer(row), add_special_tokens=False, return_tensors="pt")["input_ids"]
        logits = model(input_ids=torch.cat([front, code], 1)).logits[0, front.shape[1] - 1 : -1]
        loss = torch.nn.functional.cross_entropy(logits.float(), code[0], reduction="sum")
        found.append(round(loss.item(), 4))
    return found
