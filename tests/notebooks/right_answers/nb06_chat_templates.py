"""Right answers to notebook 06's exercises that are written in another way than the reference."""

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, BitsAndBytesConfig
from trl import SFTConfig, SFTTrainer


def render_chatml(messages, default_system, add_generation_prompt):
    lines = []
    for number, message in enumerate(messages):
        if number == 0 and message["role"] != "system":
            lines += ["<|im_start|>system", default_system + "<|im_end|>"]
        lines.append("<|im_start|>" + message["role"])
        lines.append(message["content"] + "<|im_end|>")
    if add_generation_prompt:
        lines.append("<|im_start|>assistant")
    return "\n".join([*lines, ""])


def render_llama3(messages, date, add_generation_prompt):
    facts = ["Cutting Knowledge Date: December 2023", f"Today Date: {date}", ""]
    has_system = messages[0]["role"] == "system"
    facts.append(messages[0]["content"].strip() if has_system else "")
    parts = ["<|begin_of_text|>", ("system", "\n".join(facts))]
    parts += [(m["role"], m["content"].strip()) for m in messages[has_system:]]
    written = []
    for part in parts:
        if isinstance(part, str):
            written.append(part)
        else:
            written += ["<|start_header_id|>", part[0], "<|end_header_id|>", "\n\n", part[1], "<|eot_id|>"]
    if add_generation_prompt:
        written.append("<|start_header_id|>assistant<|end_header_id|>\n\n")
    return "".join(written)


def loss_mask(ids, header, end):
    """By the places of the headers, not by a state."""
    labels = [-100] * len(ids)
    place = 0
    while place + len(header) <= len(ids):
        if ids[place : place + len(header)] != header:
            place += 1
            continue
        place += len(header)
        while place < len(ids):
            labels[place] = ids[place]
            place += 1
            if ids[place - 1] == end:
                break
    return labels


def snippet_1(output_dir):
    config = SFTConfig(output_dir, use_cpu=True, bf16=False, max_length=512, warmup_steps=0.1)
    config.eval_strategy, config.num_train_epochs = "epoch", 2
    return config


def snippet_2(model, tokenizer, dataset, output_dir):
    dataset = dataset.remove_columns("text").rename_column("note", "text")
    config = SFTConfig(output_dir, use_cpu=True, bf16=False, max_length=16, packing=True)
    return SFTTrainer(model, config, train_dataset=dataset, processing_class=tokenizer)


def snippet_3(model, tokenizer, conversations, output_dir):
    """The ids and labels by oneself."""
    rows = {"input_ids": [], "labels": []}
    for messages in conversations:
        start = len(tokenizer.apply_chat_template(messages[:-1], add_generation_prompt=True)["input_ids"])
        ids = tokenizer.apply_chat_template(messages)["input_ids"]
        rows["input_ids"].append(ids)
        rows["labels"].append([-100] * start + ids[start:])
    config = SFTConfig(output_dir, use_cpu=True, bf16=False)
    return SFTTrainer(model, config, train_dataset=Dataset.from_dict(rows), processing_class=tokenizer)


def snippet_4(folder):
    four_bits = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype="bfloat16",
    )
    return AutoModelForCausalLM.from_pretrained(folder, quantization_config=four_bits, dtype=torch.bfloat16)


def snippet_5(model, tokenizer, messages):
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        for _ in range(4):
            ids = torch.cat([ids, model(ids).logits[:, -1:].argmax(-1)], 1)
    return ids[0, -4:].tolist()


ANSWERS = {
    "chat_templates.render_chatml": render_chatml,
    "chat_templates.render_llama3": render_llama3,
    "chat_templates.loss_mask": loss_mask,
    "chat_templates.snippet_1": snippet_1,
    "chat_templates.snippet_2": snippet_2,
    "chat_templates.snippet_3": snippet_3,
    "chat_templates.snippet_4": snippet_4,
    "chat_templates.snippet_5": snippet_5,
}
