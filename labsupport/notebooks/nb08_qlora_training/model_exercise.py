"""Notebook 08's central exercise, QLoRA's model: judged by what it is and does, not by how it was made."""

from __future__ import annotations

from labsupport.checking.exercise import Exercise, told
from labsupport.core import upstream
from labsupport.notebooks.nb08_qlora_training import model_facts, tiny_models
from labsupport.qlora_runs import recipe


def use(fn, compute_dtype: str, rank: int) -> dict:
    """Facts of the model that fn(folder, compute_dtype, rank) makes of a tiny Llama."""
    import torch

    upstream.guard_4bit_on_cpu()
    model = fn(tiny_models.folder(), getattr(torch, compute_dtype), rank)
    if model is None:
        raise TypeError("it returned None: is a return statement missing?")
    return model_facts.of_base(model) | model_facts.of_adapters(model) | model_facts.of_first_step(model)


def _cases() -> list[tuple]:
    tiny_models.folder()
    return [("bfloat16", 2), ("float32", 6)]


# ---------------------------------------------------------------- what people write


def _loaded(folder, compute_dtype, bits, dtype):
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    settings = {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
        "bnb_4bit_compute_dtype": compute_dtype,
    }
    left = {name: value for name, value in (settings | bits).items() if value is not None}
    config = BitsAndBytesConfig(**left) if left else None
    options = {"dtype": compute_dtype} | dtype
    return AutoModelForCausalLM.from_pretrained(folder, quantization_config=config, **options)


BARE = dict.fromkeys(("bnb_4bit_quant_type", "bnb_4bit_use_double_quant", "bnb_4bit_compute_dtype"))
NOT_AT_ALL = dict.fromkeys((*BARE, "load_in_4bit"))


def _wrong(bits=None, dtype=None, lora=None, before=None, after=None, **how):
    """The recipe with other settings of the quantisation, of loading and of LoRA (None takes one out), or
    with before(model) done to the base and after(model, compute_dtype) to the whole."""

    def build(folder, compute_dtype, rank):
        from peft import LoraConfig, get_peft_model

        model = _loaded(folder, compute_dtype, bits or {}, dtype or {})
        if before:
            model = before(model)
        settings = {"r": rank, "lora_alpha": 2 * rank, "target_modules": "all-linear"}
        settings |= {"task_type": "CAUSAL_LM"} | (lora(rank) if lora else {})
        left = {name: value for name, value in settings.items() if value is not None}
        model = get_peft_model(model, LoraConfig(**left), **how)
        return after(model, compute_dtype) if after else model

    return build


def _base_alone(folder, compute_dtype, rank):
    return _loaded(folder, compute_dtype, {}, {})


def _base_frozen(*given):
    return _base_alone(*given).requires_grad_(False)


def _prepared(model, *_):
    from peft import prepare_model_for_kbit_training

    return prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)


def _small_ones_trained(model, _):
    for name, parameter in model.named_parameters():
        if "norm" in name or "embed" in name:
            parameter.requires_grad_(True)
    return model


qlora_model = Exercise(
    name="qlora_training.qlora_model",
    reference=recipe.qlora_model,
    used=use,
    cases=_cases,
    mistakes=told(
        _wrong(BARE),
        "load_in_4bit alone is not QLoRA: it gives FP4, products in float32, and scales that are not "
        "quantised again. Three more settings of BitsAndBytesConfig say otherwise.",
        _wrong({"bnb_4bit_quant_type": None}),
        'The type is FP4, the default: say bnb_4bit_quant_type="nf4".',
        _wrong({"bnb_4bit_use_double_quant": None}),
        "The scales are not quantised again: bnb_4bit_use_double_quant saves another 0.37 bits a weight.",
        _wrong({"bnb_4bit_compute_dtype": None}),
        "It computes in float32, the default, whatever compute_dtype says: hand it on as "
        "bnb_4bit_compute_dtype.",
        _wrong({**NOT_AT_ALL, "load_in_8bit": True}),
        "That is 8 bits, LLM.int8(): twice the memory of NF4. Load in 4 bits.",
        _wrong(NOT_AT_ALL),
        "Nothing is quantised, so this is LoRA: the settings go into a BitsAndBytesConfig, which "
        "from_pretrained takes as quantization_config.",
        _wrong(dtype={"dtype": "auto"}),
        "What is not quantised comes in the format of the file: say dtype=compute_dtype in from_pretrained.",
        _wrong(before=_prepared),
        "prepare_model_for_kbit_training makes embeddings, norms and head float32: for Llama 3.1 8B that "
        "takes 2.1 GB more. Without it they stay in compute_dtype.",
        _wrong(lora=lambda rank: {"target_modules": None}),
        "The adapters are on q_proj and v_proj alone, PEFT's default for a Llama: target_modules says where.",
        _wrong(lora=lambda rank: {"target_modules": list(tiny_models.PROJECTIONS[:4])}),
        'The adapters are on the attention alone: "all-linear" takes the MLP\'s three layers, too.',
        _wrong(lora=lambda rank: {"lora_alpha": rank}),
        "alpha equals the rank, so the factor alpha / r is 1: alpha is to be twice the rank.",
        _wrong(lora=lambda rank: {"lora_alpha": None}),
        "alpha is PEFT's default, 8, whatever the rank: alpha is to be twice the rank.",
        _wrong(lora=lambda rank: {"r": None, "lora_alpha": 2 * rank}),
        "The rank is PEFT's default, 8: LoraConfig calls it r.",
        _wrong(autocast_adapter_dtype=False),
        "The adapters are in compute_dtype, so small steps are rounded away in bfloat16. PEFT makes them "
        "float32 unless told not to; what is cast afterwards stays so.",
        _wrong(lora=lambda rank: {"inference_mode": True}),
        "Nothing is trained: inference_mode is for using an adapter, and freezes it.",
        _wrong(after=_prepared),
        "prepare_model_for_kbit_training came after the adapters and froze them with all the rest.",
        _wrong(after=_small_ones_trained),
        "Embeddings and norms are trained, too: the base is to be frozen, all of it.",
        _wrong(after=lambda model, _: model.get_base_model()),
        "The adapters are in the base model now, but what is returned is that base model, which cannot save "
        "them alone: return what get_peft_model returns.",
        (_base_alone, _base_frozen),
        "The base is right, but there are no adapters on it, so nothing can be trained: get_peft_model.",
    ),
    hints=[
        "Three calls: from_pretrained with a BitsAndBytesConfig, LoraConfig, get_peft_model. The last "
        "freezes the base and makes the adapters float32.",
        "Four settings of BitsAndBytesConfig: load_in_4bit, bnb_4bit_quant_type, bnb_4bit_use_double_quant, "
        "bnb_4bit_compute_dtype. from_pretrained takes it as quantization_config, beside dtype.",
        'LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM"), and '
        "return get_peft_model(model, config).",
    ],
    minutes=20,
    difficulty=3,
)
