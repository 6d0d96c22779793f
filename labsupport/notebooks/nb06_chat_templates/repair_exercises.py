"""Notebook 06's exercises on code that no longer runs: each check runs the learner's, on a tiny model."""

from __future__ import annotations

import functools

from labsupport.chat_formats import trainer_rows, trying
from labsupport.checking.exercise import Exercise, told

# ---------------------------------------------------------------- 1: settings


def _config(folder, **changes):
    from trl import SFTConfig

    settings = {"num_train_epochs": 2, "max_length": 512, "warmup_steps": 0.1, "eval_strategy": "epoch"}
    settings |= {"use_cpu": True, "bf16": False} | changes
    left = {name: value for name, value in settings.items() if value is not None}
    return SFTConfig(output_dir=folder, **left)


def _configured(**changes):
    return lambda folder: _config(folder, **changes)


snippet_1 = Exercise(
    name="chat_templates.snippet_1",
    reference=_config,
    used=trying.settings,
    cases=[()],
    mistakes=told(
        _configured(max_length=None),
        "It runs, but the limit of 512 is gone, and rows are cut at the default: it has another name now.",
        _configured(warmup_steps=None),
        "It runs, but the warm-up is gone. A share of the steps is given as warmup_steps below 1 now.",
        _configured(warmup_steps=10),
        "Ten steps are not a tenth of them: warmup_steps takes a share, too, if it is below 1.",
        _configured(eval_strategy=None),
        "It runs, but nothing is evaluated: the strategy has another name now.",
        _configured(num_train_epochs=None),
        "It runs, but for another number of epochs than 2: that setting has its old name.",
    ),
    hints=[
        "The error names one argument at a time; most have a new name and the same meaning.",
        "max_length, eval_strategy, use_cpu.",
        "warmup_ratio went into warmup_steps: a number below 1 is a share of all steps.",
    ],
    minutes=4,
    difficulty=1,
)

# ---------------------------------------------------------------- 2: the trainer's arguments


def _packing_trainer(model, reader, dataset, folder, **changes):
    from trl import SFTConfig, SFTTrainer

    settings = {"dataset_text_field": "note", "max_length": 16, "packing": True} | changes
    left = {name: value for name, value in settings.items() if value is not None}
    config = SFTConfig(output_dir=folder, use_cpu=True, bf16=False, **left)
    return SFTTrainer(model=model, processing_class=reader, args=config, train_dataset=dataset)


def _packed(**changes):
    return lambda *given: _packing_trainer(*given, **changes)


snippet_2 = Exercise(
    name="chat_templates.snippet_2",
    reference=_packing_trainer,
    used=trying.packed_rows,
    cases=[()],
    mistakes=told(
        _packed(dataset_text_field=None),
        'It runs, but on the column "text", the default: say in SFTConfig that the texts are in "note".',
        _packed(max_length=None),
        "It runs, but all notes are packed into one row: the limit of 16 tokens is an SFTConfig setting now.",
        _packed(packing=None),
        "It runs, but without packing, one note a row: packing is an SFTConfig setting now.",
    ),
    hints=[
        "What concerns the data went from the trainer to its SFTConfig, and one argument has a new name.",
        "processing_class takes the tokenizer.",
        'In SFTConfig: dataset_text_field="note", max_length=16, packing=True.',
    ],
    minutes=5,
    difficulty=1,
)

# ---------------------------------------------------------------- 3: the answers alone


def _completions(model, reader, conversations, folder):
    rows = [{"prompt": messages[:-1], "completion": messages[-1:]} for messages in conversations]
    return trainer_rows.sft_trainer(rows, reader, folder)


def _texts(model, reader, conversations, folder):
    rows = [{"text": reader.apply_chat_template(messages, tokenize=False)} for messages in conversations]
    return trainer_rows.sft_trainer(rows, reader, folder)


def _messages(model, reader, conversations, folder):
    rows = [{"messages": messages} for messages in conversations]
    return trainer_rows.sft_trainer(rows, reader, folder)


def _bare_strings(model, reader, conversations, folder):
    rows = [{"prompt": m[-2]["content"], "completion": m[-1]["content"]} for m in conversations]
    return trainer_rows.sft_trainer(rows, reader, folder, completion_only_loss=False)


def _rendered_twice(model, reader, conversations, folder):
    render = functools.partial(reader.apply_chat_template, tokenize=False)
    rows = [
        {"prompt": render(m[:-1], add_generation_prompt=True), "completion": render(m[-1:])}
        for m in conversations
    ]
    return trainer_rows.sft_trainer(rows, reader, folder)


snippet_3 = Exercise(
    name="chat_templates.snippet_3",
    reference=_completions,
    used=trying.learned,
    cases=[()],
    mistakes=told(
        _texts,
        "It runs, but every token is learned, the user's too, and the end of the turn twice: texts that are "
        "rendered already hide where the answer begins.",
        _messages,
        'It runs, but every token is learned: "messages" alone do not say that only answers count.',
        _bare_strings,
        "The words of the user are learned, and the chat template is not used: give messages, not strings.",
        _rendered_twice,
        "The completion is rendered as a conversation of its own, with a system turn and a header: give "
        "messages and leave the rendering to the trainer.",
    ),
    hints=[
        "The collator looked for the answers in the finished text. Now the data say where they begin.",
        'A row has two keys: "prompt" and "completion", each a list of messages.',
        'Dataset.from_list([{"prompt": messages[:-1], "completion": messages[-1:]} for messages in '
        "conversations]), and no collator.",
    ],
    minutes=6,
    difficulty=2,
)

# ---------------------------------------------------------------- 4: four bits


def _four_bits(folder, dtype="bfloat16", **changes):
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    settings = {"bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}
    settings |= {"load_in_4bit": True, "bnb_4bit_compute_dtype": torch.bfloat16} | changes
    left = {name: value for name, value in settings.items() if value is not None}
    config = BitsAndBytesConfig(**left) if left["load_in_4bit"] else None
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, quantization_config=config)


def _in_four_bits(**changes):
    return lambda folder: _four_bits(folder, **changes)


_BARE = dict.fromkeys(("bnb_4bit_quant_type", "bnb_4bit_use_double_quant", "bnb_4bit_compute_dtype"))

snippet_4 = Exercise(
    name="chat_templates.snippet_4",
    reference=_four_bits,
    used=trying.loaded,
    cases=[()],
    mistakes=told(
        _in_four_bits(load_in_4bit=False),
        "It runs, but nothing is quantised: the settings belong into a BitsAndBytesConfig, handed over as "
        "quantization_config.",
        _in_four_bits(**_BARE),
        "load_in_4bit alone gives FP4, computing in float32, without double quantisation: not what QLoRA is.",
        _in_four_bits(bnb_4bit_quant_type=None),
        'The type is FP4, the default: say "nf4".',
        _in_four_bits(bnb_4bit_use_double_quant=None),
        "The scales are not quantised again: bnb_4bit_use_double_quant got lost.",
        _in_four_bits(bnb_4bit_compute_dtype=None),
        "The products are computed in float32, the default: bnb_4bit_compute_dtype got lost.",
        _in_four_bits(dtype="float32"),
        "What is not quantised is in float32: torch_dtype is called dtype now.",
    ),
    hints=[
        "from_pretrained no longer takes the settings of the quantisation one by one.",
        "They are arguments of BitsAndBytesConfig, which goes into quantization_config.",
        "from_pretrained(folder, dtype=torch.bfloat16, quantization_config=BitsAndBytesConfig(load_in_4bit="
        'True, bnb_4bit_quant_type="nf4", ...)).',
    ],
    minutes=5,
    difficulty=1,
)

# ---------------------------------------------------------------- 5: a reply


def _generated(model, reader, messages, opened=True, skipped=True, tokens=4):
    prompt = reader.apply_chat_template(messages, add_generation_prompt=opened, return_tensors="pt")
    output = model.generate(**prompt, max_new_tokens=tokens, do_sample=False)
    return output[0, prompt["input_ids"].shape[1] if skipped else 0 :].tolist()


snippet_5 = Exercise(
    name="chat_templates.snippet_5",
    reference=_generated,
    used=trying.reply,
    cases=[()],
    mistakes=told(
        lambda *given: _generated(*given, opened=False),
        "Without add_generation_prompt no answer is opened: the model goes on behind the user's turn.",
        lambda *given: _generated(*given, skipped=False),
        "The prompt's own ids are in front: keep what comes after them.",
        lambda *given: _generated(*given, tokens=9),
        "It is longer than 4 new tokens: max_new_tokens=4 stays.",
    ),
    hints=[
        "apply_chat_template returns a dictionary now: input_ids and attention_mask.",
        "model.generate(**prompt, ...) takes both.",
        'The prompt\'s length is prompt["input_ids"].shape[1].',
    ],
    minutes=4,
    difficulty=1,
)
