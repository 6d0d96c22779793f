"""QLoRA's recipe as a function: a base packed to four bits, frozen, and LoRA on all its linear layers."""

from __future__ import annotations


def qlora_model(folder: str, compute_dtype, rank: int):
    """The model in `folder` with its linear layers in NF4 and LoRA beside each, a PeftModel to be trained.

    The scales are quantised, too; products are computed in `compute_dtype` (a torch.dtype), and what is not
    packed (embeddings, norms, head) is kept in it. Adapters are float32, which PEFT sees to, of this rank,
    scaled by alpha / rank = 2. Dettmers et al. 2023, sections 2 and 3; alpha is the course's.
    """
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    from labsupport.core import upstream

    upstream.guard_4bit_on_cpu()
    four_bits = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute_dtype,
    )
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=compute_dtype, quantization_config=four_bits)
    lora = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")
    return get_peft_model(model, lora)
