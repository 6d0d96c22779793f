"""The shared adapter: notebook 01's fine-tune as a function, for whatever only needs "a tuned model".

Notebook 01 writes this out in full; a test holds the two together by their fingerprints.
"""

from __future__ import annotations


def trainer(seed: int = 0):
    """An untrained SFTTrainer with the course's LoRA recipe on the current profile."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import PrinterCallback
    from trl import SFTConfig, SFTTrainer

    from labsupport.core import files, profiles, upstream
    from labsupport.models import base_model
    from labsupport.tasks import tickets
    from labsupport.training import prefixes

    upstream.score_only_labels()
    profile = profiles.current()
    model, tokenizer = base_model.load()
    rows = tickets.load("train")[: profile.train_rows]
    arguments = SFTConfig(
        output_dir=str(files.RUNS / "trainer"),
        learning_rate=profile.learning_rate,
        num_train_epochs=1,
        max_steps=profile.max_steps,
        lr_scheduler_type="cosine",
        warmup_steps=0.1,
        adam_beta1=0.6,
        adam_beta2=0.95,
        per_device_train_batch_size=profile.batch_size,
        gradient_accumulation_steps=profile.accumulation,
        max_length=profile.max_length,
        activation_checkpointing=not profile.use_cpu,
        use_cpu=profile.use_cpu,
        bf16=profile.bf16,
        fp16=profile.fp16,
        logging_steps=8,
        logging_first_step=True,
        report_to="none",
        disable_tqdm=True,
        seed=seed,
    )
    torch.manual_seed(seed)  # decides the adapters' first weights
    result = SFTTrainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_list(tickets.as_prompt_completion(rows)),
        processing_class=tokenizer,
        peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    result.remove_callback(PrinterCallback)
    if profile.quantize:
        adapters_in_float32(result.model)
    if profile.use_cpu:
        prefixes.share(result)
    return result


def adapters_in_float32(model) -> None:
    """Make what is trained float32 again, in place: TRL casts the adapters of a 4-bit model to bfloat16.

    In float16 training the gradient scaler refuses them so, and a run that is resumed gets float32, whatever
    it was begun with.
    """
    import torch

    from labsupport.models import casting

    casting.cast_trained(model, torch.float32)
