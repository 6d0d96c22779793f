"""What the libraries make of QLoRA's adapters, seen on a random model of two blocks."""

from __future__ import annotations

from labsupport.teaching.claims import shows


@shows("D11")
def formats_of_adapters() -> str:
    """The adapters' number format on a 4-bit base: by PEFT, and under TRL's trainer."""
    import tempfile

    import torch
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    from labsupport.chat_formats import trainer_rows
    from labsupport.core import files
    from labsupport.qlora_runs import recipe

    tokenizer = AutoTokenizer.from_pretrained(files.DATA / "tiny_base")
    with tempfile.TemporaryDirectory() as folder:
        trainer_rows.tiny_llama(len(tokenizer)).to(torch.bfloat16).save_pretrained(folder)
        model = recipe.qlora_model(folder, torch.bfloat16, rank=2)
        by_peft = formats(model)
        with trainer_rows.quiet_config():
            arguments = SFTConfig(output_dir=folder, use_cpu=True, bf16=False, report_to="none")
        trainer = SFTTrainer(
            model=model.unload(),
            args=arguments,
            train_dataset=Dataset.from_list([{"prompt": "1", "completion": "2"}]),
            processing_class=tokenizer,
            peft_config=model.peft_config["default"],
        )
        return f"adapters on NF4: by PEFT {by_peft}, under SFTTrainer {formats(trainer.model)}"


def formats(model) -> str:
    """The dtypes of what is trained."""
    return ", ".join(
        sorted({str(p.dtype).removeprefix("torch.") for p in model.parameters() if p.requires_grad})
    )
