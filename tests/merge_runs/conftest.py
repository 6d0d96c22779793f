"""A random base in a folder, and adapters saved for it."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny_training import tiny_model

# Rows shorter than a block of 64 weights are dequantised wrongly by bitsandbytes 0.50.2 on a processor.
SIZES = {"hidden_size": 64, "intermediate_size": 128}


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def base(tmp_path_factory, tokenizer) -> str:
    """The folder of a random two-layer Llama with the bundled tokenizer."""
    folder = tmp_path_factory.mktemp("base")
    tiny_model(**SIZES).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def make_adapter(base, tmp_path_factory):
    """(DoRA or not) -> the folder of an adapter with random A and B; its dW is a few percent of W."""

    def make(dora: bool = False):
        folder = tmp_path_factory.mktemp("adapter")
        settings = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
        model = get_peft_model(tiny_model(**SIZES), LoraConfig(use_dora=dora, **settings))
        generator = torch.Generator().manual_seed(0)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.data = 2e-4 * torch.randn(parameter.shape, generator=generator)
        model.save_pretrained(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def adapter(make_adapter):
    """The folder of such an adapter, plain LoRA."""
    return make_adapter()
