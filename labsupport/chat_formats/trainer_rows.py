"""What TRL's SFTTrainer really hands to a model: rows of ids and labels, of a trainer built on a CPU."""

from __future__ import annotations

import contextlib
import copy
import warnings


def tiny_llama(vocabulary: int):
    """A random Llama of two layers, 32 wide, in float32; seeded, so that it is the same one every time."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    tokens = {"vocab_size": vocabulary, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
    return LlamaForCausalLM(LlamaConfig(**sizes, **tokens, num_key_value_heads=2, initializer_range=0.3))


def sft_trainer(rows: list[dict], tokenizer, folder: str, **settings):
    """An SFTTrainer of a tiny model on the CPU with these rows. settings: SFTConfig's. Nothing is trained.

    folder: where the trainer may write.
    """
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    with quiet_config():
        config = SFTConfig(output_dir=str(folder), use_cpu=True, bf16=False, report_to="none", **settings)
        return SFTTrainer(
            model=tiny_llama(len(tokenizer)),
            args=config,
            train_dataset=Dataset.from_list(rows),
            processing_class=copy.deepcopy(tokenizer),  # TRL gives it chat_template_path's template
        )


def rows_of(trainer) -> list[tuple[list[int], list[int]]]:
    """The ids and labels of each row, in the data's order, as the trainer's collator makes them of one batch.

    What fills shorter rows up on the right is left out. Packed rows come as a single one.
    """
    loader = trainer.get_train_dataloader()
    batch = loader.collate_fn([loader.dataset[i] for i in range(len(loader.dataset))])
    rows = list(zip(batch["input_ids"].tolist(), batch["labels"].tolist(), strict=True))
    if len(rows) < len(loader.dataset):
        return rows
    return [(ids[:n], labels[:n]) for (ids, labels), n in zip(rows, lengths(trainer), strict=True)]


def lengths(trainer) -> list[int]:
    """The number of tokens of each row before it is collated: packed rows are apart here."""
    dataset = trainer.get_train_dataloader().dataset
    return [len(dataset[i]["input_ids"]) for i in range(len(dataset))]


@contextlib.contextmanager
def quiet_config():
    """A block in which TRL 1.16 may use transformers' old name of a setting without a warning about it."""
    with warnings.catch_warnings():
        old = "`gradient_checkpointing` is deprecated"
        warnings.filterwarnings("ignore", message=old, category=FutureWarning)
        yield
