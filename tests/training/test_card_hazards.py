"""What goes wrong without a word on a card, tried on a processor: NaN runs, penalties, adapters' formats."""

import pytest
import torch
from tiny_training import NAME, tiny_model, tiny_trainer
from transformers import GenerationConfig

from labsupport.core import files, upstream
from labsupport.core.files import LabError
from labsupport.models import base_model
from labsupport.training import recipe, run_store


@pytest.mark.slow
def test_a_run_that_ends_in_nan_is_not_kept(tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "RUNS", tmp_path)
    trainer = tiny_trainer(tokenizer, learning_rate=float("inf"))
    with pytest.raises(LabError, match="is not kept: .* NaN or infinity") as error:
        run_store.recorded(trainer, NAME)
    assert "\n" not in str(error.value) and "learning rate" in str(error.value)
    (folder,) = [path for path in tmp_path.iterdir() if path.is_dir() and path.name.startswith(NAME)]
    assert not (folder / "run.json").exists() and not (folder / "checkpoints").exists()
    with pytest.raises(LabError, match="is not kept"):  # and the next try does not load it
        run_store.recorded(tiny_trainer(tokenizer, learning_rate=float("inf")), NAME)


def test_greedy_replies_are_the_likeliest_tokens_whatever_the_model_comes_with():
    model = tiny_model()
    before = GenerationConfig().to_dict()
    model.generation_config = GenerationConfig()
    base_model.without_penalties(model)
    assert model.generation_config.to_dict() == before  # nothing to do: fingerprints stay
    ids = torch.arange(2, 30)[None]
    ask = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    plain = model.generate(ids, **ask)
    model.generation_config = GenerationConfig(repetition_penalty=5.0, no_repeat_ngram_size=2)
    assert not torch.equal(model.generate(ids, **ask), plain)  # do_sample=False leaves them on
    base_model.without_penalties(model)
    assert torch.equal(model.generate(ids, **ask), plain)


@pytest.mark.slow
def test_adapters_on_four_bits_are_float32_again(tokenizer, tmp_path):
    """Fails when TRL no longer casts them: then `adapters_in_float32` can go."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig
    from trl import SFTConfig, SFTTrainer

    upstream.guard_4bit_on_cpu()
    tiny_model(vocab_size=len(tokenizer)).save_pretrained(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(
        tmp_path,
        quantization_config=BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4"),
        device_map="cpu",
    )
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            output_dir=str(tmp_path / "run"),
            use_cpu=True,
            bf16=False,
            activation_checkpointing=False,
            report_to="none",
        ),
        train_dataset=Dataset.from_list([{"prompt": "a", "completion": "b"}]),
        processing_class=tokenizer,
        peft_config=LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    trained = [p for p in trainer.model.parameters() if p.requires_grad]
    assert {p.dtype for p in trained} == {torch.bfloat16}
    recipe.adapters_in_float32(trainer.model)
    assert {p.dtype for p in trained} == {torch.float32}
    packed = [p for n, p in trainer.model.named_parameters() if n.endswith("base_layer.weight")]
    assert {p.dtype for p in packed} == {torch.uint8}
