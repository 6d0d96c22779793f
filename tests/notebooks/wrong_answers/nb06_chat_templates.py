"""Wrong answers to notebook 06's exercises, as learners write them: (function, words of its diagnosis)."""

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, BitsAndBytesConfig
from trl import SFTConfig, SFTTrainer

OPEN, CLOSE = "<|im_start|>", "<|im_end|>"


def chatml(turn=f"{OPEN}{{role}}\n{{content}}{CLOSE}\n", opening=f"{OPEN}assistant\n", default=True):
    """A renderer of that form."""

    def render(messages, default_system, add_generation_prompt):
        if default and messages[0]["role"] != "system":
            messages = [{"role": "system", "content": default_system}, *messages]
        text = "".join(turn.format(**message) for message in messages)
        return text + opening * bool(add_generation_prompt)

    return render


def default_in_place(messages, default_system, add_generation_prompt):
    if messages[0]["role"] != "system":
        messages.insert(0, {"role": "system", "content": default_system})
    return chatml()(messages, default_system, add_generation_prompt)


def chatml_of_a_list(messages, default_system, add_generation_prompt):
    return [chatml()([message], default_system, False) for message in messages]


def llama3(
    begin="<|begin_of_text|>", gap="\n\n", end="<|eot_id|>", strip=str.strip, dates=True, closed=False
):
    def render(messages, date, add_generation_prompt):
        own = strip(messages[0]["content"]) if messages[0]["role"] == "system" else ""
        facts = f"Cutting Knowledge Date: December 2023\nToday Date: {date}\n\n" if dates else ""
        turns = [("system", facts + own)]
        turns += [(m["role"], strip(m["content"])) for m in messages if m["role"] != "system"]
        text = begin
        for role, content in turns:
            text += f"<|start_header_id|>{role}<|end_header_id|>{gap}{content}{end}"
        last = f"<|start_header_id|>assistant<|end_header_id|>\n\n{end * closed}"
        return text + last * bool(add_generation_prompt)

    return render


def todays_date_fixed(messages, date, add_generation_prompt):
    return llama3()(messages, "26 Jul 2024", add_generation_prompt)


def mask(stop=1, begin=0, last_only=False, first_only=False, filler=-100):
    """A mask whose answers end `stop` tokens from their end's place and begin `begin` from their first."""

    def loss_mask(ids, header, end):
        size, labels = len(header), [filler] * len(ids)
        starts = [i + size for i in range(len(ids)) if ids[i : i + size] == header]
        starts = starts[-1:] if last_only else starts[:1] if first_only else starts
        for start in starts:
            rest = ids[start:]
            until = start + rest.index(end) + stop if end in rest else len(ids)
            labels[start + begin : until] = ids[start + begin : until]
        return labels

    return loss_mask


def labels_in_place(ids, header, end):
    labels = mask()(ids, header, end)
    ids[:] = labels
    return labels


def shifted(ids, header, end):
    return mask()(ids, header, end)[1:] + [-100]


def by_pad_id(ids, header, end):
    """As a collator that takes every id equal to the padding's for padding."""
    return [-100 if label == end else label for label in mask()(ids, header, end)]


def to_the_end(ids, header, end):
    for i in range(len(ids)):
        if ids[i : i + len(header)] == header:
            return [-100] * (i + len(header)) + ids[i + len(header) :]
    return [-100] * len(ids)


def needs_an_end(ids, header, end):
    labels, position = [-100] * len(ids), 0
    while header[0] in ids[position:]:
        position = ids.index(header[0], position)
        if ids[position : position + len(header)] == header:
            stop = ids.index(end, position) + 1
            labels[position + len(header) : stop] = ids[position + len(header) : stop]
            position = stop
        else:
            position += 1
    return labels


def as_tensor(ids, header, end):
    return torch.tensor(mask()(ids, header, end))


# ---------------------------------------------------------------- the snippets as they were, half repaired


def broken_1(output_dir):
    return SFTConfig(
        output_dir=output_dir,
        num_train_epochs=2,
        max_seq_length=512,
        warmup_ratio=0.1,
        evaluation_strategy="epoch",
        no_cuda=True,
        bf16=False,
    )


def only_the_length_renamed(output_dir):
    return SFTConfig(output_dir=output_dir, max_length=512, warmup_ratio=0.1)


def evaluation_left(output_dir):
    return SFTConfig(output_dir=output_dir, max_length=512, warmup_steps=0.1, evaluation_strategy="epoch")


def on_no_gpu(output_dir):
    return SFTConfig(output_dir=output_dir, max_length=512, warmup_steps=0.1, eval_strategy="epoch")


def all_deleted(output_dir):
    return SFTConfig(output_dir=output_dir, num_train_epochs=2, use_cpu=True, bf16=False)


def broken_2(model, tokenizer, dataset, output_dir):
    config = SFTConfig(output_dir=output_dir, use_cpu=True, bf16=False)
    return SFTTrainer(
        model=model,
        tokenizer=tokenizer,
        args=config,
        train_dataset=dataset,
        dataset_text_field="note",
        max_seq_length=16,
        packing=True,
    )


def data_settings_left(model, tokenizer, dataset, output_dir):
    config = SFTConfig(output_dir=output_dir, use_cpu=True, bf16=False)
    return SFTTrainer(
        model=model,
        processing_class=tokenizer,
        args=config,
        train_dataset=dataset,
        dataset_text_field="note",
    )


def packing_alone(model, tokenizer, dataset, output_dir):
    config = SFTConfig(output_dir, use_cpu=True, bf16=False, packing=True, dataset_text_field="note")
    return SFTTrainer(model, config, train_dataset=dataset, processing_class=tokenizer)


def texts_in_a_list(model, tokenizer, dataset, output_dir):
    config = SFTConfig(output_dir, use_cpu=True, bf16=False, packing=True, max_length=16)
    return SFTTrainer(model, config, train_dataset=dataset["note"], processing_class=tokenizer)


def nothing_returned(model, tokenizer, dataset, output_dir):
    packing_alone(model, tokenizer, dataset, output_dir)


def broken_3(model, tokenizer, conversations, output_dir):
    from trl import DataCollatorForCompletionOnlyLM

    texts = [tokenizer.apply_chat_template(messages, tokenize=False) for messages in conversations]
    collator = DataCollatorForCompletionOnlyLM("<|im_start|>assistant", tokenizer=tokenizer)
    return SFTTrainer(
        model=model,
        processing_class=tokenizer,
        args=SFTConfig(output_dir=output_dir, use_cpu=True, bf16=False),
        train_dataset=Dataset.from_dict({"text": texts}),
        data_collator=collator,
    )


def trainer_of(rows, settings=None):
    """An answer whose rows are rows(conversations, tokenizer)."""

    def build(model, tokenizer, conversations, output_dir):
        config = SFTConfig(output_dir, use_cpu=True, bf16=False, **(settings or {}))
        data = Dataset.from_list(rows(conversations, tokenizer))
        return SFTTrainer(model, config, train_dataset=data, processing_class=tokenizer)

    return build


def rendered(conversations, tokenizer):
    return [{"text": tokenizer.apply_chat_template(c, tokenize=False)} for c in conversations]


def as_messages(conversations, tokenizer):
    return [{"messages": c} for c in conversations]


def answer_in_the_prompt(conversations, tokenizer):
    return [{"prompt": c, "completion": c[-1:]} for c in conversations]


def broken_4(folder):
    return AutoModelForCausalLM.from_pretrained(
        folder,
        torch_dtype=torch.bfloat16,
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )


def bare_4_bits(folder):
    four_bits = BitsAndBytesConfig(load_in_4bit=True)
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, quantization_config=four_bits)


def not_quantised(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)


def broken_5(model, tokenizer, messages):
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt")
    output = model.generate(prompt, max_new_tokens=4, do_sample=False)
    return output[0, prompt.shape[1] :].tolist()


def length_of_the_dictionary(model, tokenizer, messages):
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt")
    output = model.generate(**prompt, max_new_tokens=4, do_sample=False)
    return output[0, len(prompt) :].tolist()


def whole_output(model, tokenizer, messages):
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt")
    return model.generate(**prompt, max_new_tokens=4, do_sample=False)[0].tolist()


def not_opened(model, tokenizer, messages):
    prompt = tokenizer.apply_chat_template(messages, return_tensors="pt")
    output = model.generate(**prompt, max_new_tokens=4, do_sample=False)
    return output[0, prompt["input_ids"].shape[1] :].tolist()


ANSWERS = {
    "chat_templates.render_chatml": [
        (chatml(default=False), "the template writes one of its own"),
        (chatml(turn=f"{OPEN}{{role}}\n{{content}}{CLOSE}"), "A line break is missing after"),
        (chatml(opening=f"{OPEN}assistant"), "The opening ends with a line break"),
        (chatml(opening=""), "add_generation_prompt does nothing"),
        (chatml("{role}: {content}\n", "assistant: "), "Roles alone are words like any other"),
        (chatml(turn=f"{OPEN}{{role}}\n{{content}}\n{CLOSE}\n"), "no line break between a message"),
        (default_in_place, "changes argument messages in place"),
        (chatml_of_a_list, None),
    ],
    "chat_templates.render_llama3": [
        (llama3(begin=""), "<|begin_of_text|> is missing"),
        (llama3(gap="\n"), None),
        (llama3(strip=str), "strips every message"),
        (llama3(dates=False), "The two dates are missing"),
        (llama3(closed=True), "is left open"),
        (llama3(end="<|end_of_text|>"), "A turn ends with <|eot_id|>"),
        (todays_date_fixed, None),
    ],
    "chat_templates.loss_mask": [
        (mask(stop=0), "would never learn to stop"),
        (by_pad_id, "would never learn to stop"),
        (mask(last_only=True), "Only the last answer is learned"),
        (mask(first_only=True), "Only the first answer is learned"),
        (mask(filler=0), "0 is the id of a token"),
        (mask(begin=1), None),
        (shifted, "You shift the labels by one"),
        (to_the_end, "From the first answer on"),
        (needs_an_end, "It raised ValueError"),
        (labels_in_place, "changes argument ids in place"),
        (as_tensor, "where the next cells need a list"),
    ],
    "chat_templates.snippet_1": [
        (broken_1, "unexpected keyword argument 'max_seq_length'"),
        (only_the_length_renamed, "unexpected keyword argument 'warmup_ratio'"),
        (evaluation_left, "unexpected keyword argument 'evaluation_strategy'"),
        (on_no_gpu, "use_cpu"),
        (all_deleted, None),
    ],
    "chat_templates.snippet_2": [
        (broken_2, "unexpected keyword argument 'tokenizer'"),
        (data_settings_left, "unexpected keyword argument 'dataset_text_field'"),
        (packing_alone, "packed into one row"),
        (texts_in_a_list, "It raised"),
        (nothing_returned, "is a return statement missing"),
    ],
    "chat_templates.snippet_3": [
        (broken_3, "cannot import name 'DataCollatorForCompletionOnlyLM'"),
        (trainer_of(rendered), "the end of the turn twice"),
        (trainer_of(as_messages), "do not say that only answers count"),
        (trainer_of(as_messages, {"completion_only_loss": True}), "do not say that only answers count"),
        (trainer_of(as_messages, {"assistant_only_loss": True}), "It raised ValueError"),
        (trainer_of(answer_in_the_prompt), None),
    ],
    "chat_templates.snippet_4": [
        (broken_4, "unexpected keyword argument 'load_in_4bit'"),
        (bare_4_bits, "gives FP4"),
        (not_quantised, "nothing is quantised"),
    ],
    "chat_templates.snippet_5": [
        (broken_5, "It raised AttributeError"),
        (length_of_the_dictionary, None),
        (whole_output, "ids are in front"),
        (not_opened, "no answer is opened"),
    ],
}
