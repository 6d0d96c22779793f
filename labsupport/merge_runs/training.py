"""One QLoRA adapter: trained beside NF4's numbers held as plain weights, which is quicker and the same."""

from __future__ import annotations

import torch

from labsupport.qlora_runs import base_arms
from labsupport.tasks import tickets

ROWS, BATCH = 256, 8


def trainer(steps: int, seed: int):
    """An untrained SFTTrainer: LoRA of rank 16 on all linear layers of the profile's base through NF4.

    256 tickets in batches of 8; the course's recipe for a processor. Weights in float32, products in
    bfloat16. The base is not quantised from bfloat16 as in the experiment `qlora`: from float32, its numbers
    are to the last bit those that `base_model.load(dtype="nf4")` multiplies by.
    """
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import PrinterCallback
    from trl import SFTTrainer

    from labsupport.core import upstream
    from labsupport.models import base_model
    from labsupport.training import prefixes

    upstream.score_only_labels()
    model, tokenizer = base_model.load(dtype="float32", device="cpu")
    base_arms.put(model, base_arms.weights(model, "nf4"))
    torch.manual_seed(seed)  # decides the adapters' first weights
    result = SFTTrainer(
        model=model,
        args=settings(steps, seed),
        train_dataset=Dataset.from_list(tickets.as_prompt_completion(tickets.load("train")[:ROWS])),
        processing_class=tokenizer,
        peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    result.remove_callback(PrinterCallback)
    prefixes.share(result)
    return result


def settings(steps: int, seed: int, **more):
    """The course's recipe for a processor, as an SFTConfig: the profile's rate on a cosine, products in
    bfloat16, batches of 8, nothing saved on the way. more: what SFTConfig takes besides."""
    from trl import SFTConfig

    from labsupport.core import files, profiles

    profile = profiles.current()
    return SFTConfig(
        output_dir=str(files.RUNS / "trainer"),
        learning_rate=profile.learning_rate,
        max_steps=steps,
        lr_scheduler_type="cosine",
        warmup_steps=0.1,
        adam_beta1=0.6,
        adam_beta2=0.95,
        per_device_train_batch_size=BATCH,
        max_length=profile.max_length,
        activation_checkpointing=False,
        use_cpu=True,
        bf16=True,
        logging_steps=1,
        report_to="none",
        disable_tqdm=True,
        save_strategy="no",
        seed=seed,
        **more,
    )


def trained(steps: int, seed: int, folder) -> list[float]:
    """Train an adapter and save it in `folder`; the loss of every step, nats a trained token."""
    run = trainer(steps, seed)
    run.train()
    run.accelerator.unwrap_model(run.model).save_pretrained(folder, save_embedding_layers=False)
    return [round(float(entry["loss"]), 4) for entry in run.state.log_history if "loss" in entry]
