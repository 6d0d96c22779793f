"""One ticket in different prompt formats, and how well a model answers in each.

The right answer is the same text in every format; only what stands before it differs. So the answer's tokens
are scored alike everywhere, and the end token, which training may have spoilt, is a number of its own.
"""

from __future__ import annotations

import torch

from labsupport.evaluation import scoring
from labsupport.models import chat
from labsupport.models.modes import evaluation_mode
from labsupport.tasks import tickets
from labsupport.training import prefixes

BOS = "<|endoftext|>"  # stands for the BOS that Llama's tokenizers add: a token that this base was trained on
WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{system}\n\n### Input:\n{text}\n\n### Response:\n"
)
WITHOUT_INPUT = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{system}\n\n### Response:\n"
)
LLAMA_3 = (
    "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n{system}<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\n{text}<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n"
)
# "{system}" and "{text}" are filled in; "{template}" is the prompt by the tokenizer's own chat template.
FORMATS = {
    "template": "{template}",
    "no_system": "<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n",
    "one_bos": BOS + "{template}",
    "two_bos": BOS + BOS + "{template}",
    "hand_rolled": "{system}\n\nuser: {text}\nassistant:",
    "llama3_strings": LLAMA_3,
    "alpaca": WITH_INPUT,
    "alpaca_dropped": WITHOUT_INPUT,
}
LEAD = {"hand_rolled": " "}  # what stands between prompt and answer and belongs to the completion
COLUMNS = (*tickets.FIELDS, "rest", "end")  # the NLLs of a row; rest: keys and brackets, end: the end token
REPLIES_KEPT = 4


# ---------------------------------------------------------------- the formats


def prompt(tokenizer, name: str, text: str) -> str:
    """A message's prompt in the format of that name (a key of FORMATS)."""
    template = tokenizer.apply_chat_template(tickets.prompt(text), add_generation_prompt=True, tokenize=False)
    parts = {"{template}": template, "{system}": tickets.SYSTEM_PROMPT, "{text}": text}
    result = FORMATS[name]
    for mark, value in parts.items():
        result = result.replace(mark, value, 1)
    return result


def completion(name: str, row: dict) -> str:
    """The right answer as it follows the prompt, without the end token."""
    return LEAD.get(name, "") + tickets.answer(row)


def encode(tokenizer, name: str, row: dict) -> chat.Example:
    """Prompt, right answer and the tokenizer's end token as one example; nothing follows the end token.

    Prompt and completion are tokenised apart, as when a model answers. In one piece some formats have a token
    that reaches across the border (`llama3_strings`: two newlines are one token, before a bracket two).
    """
    answer = tickets.answer(row)
    front = tokenizer(prompt(tokenizer, name, row["text"]), add_special_tokens=False)["input_ids"]
    own = tokenizer(
        completion(name, row) + tokenizer.eos_token, add_special_tokens=False, return_offsets_mapping=True
    )
    begin = len(LEAD.get(name, ""))
    offsets = [(a - begin, b - begin) for a, b in own["offset_mapping"][:-1]]
    return chat.Example(front + own["input_ids"], len(front), answer, offsets)


# ---------------------------------------------------------------- how well a model answers


@torch.no_grad()
def scored(model, tokenizer, name: str, rows: list[dict], batch_size: int = 8) -> dict[str, list]:
    """Teacher-forced scores of the right answers, a column each, in the order of `rows`.

    `id`; `exact` (1 if every token of the answer was the model's first choice, the end token left out) and
    `stops` (1 if after the right answer the end token was); the negative log-likelihoods in nats of COLUMNS.
    """
    examples = [encode(tokenizer, name, row) for row in rows]
    found: list[dict] = [{} for _ in rows]
    with evaluation_mode(model):
        for i, logits in prefixes.logits_of_answers(model, tokenizer, examples, batch_size):
            log_probs, first = scoring.compared(examples[i].targets, logits)
            fields = scoring.field_of_tokens(examples[i].answer, examples[i].answer_offsets)
            where = [*[field or "rest" for field in fields], "end"]
            nll = dict.fromkeys(COLUMNS, 0.0)
            for column, value in zip(where, log_probs.tolist(), strict=True):
                nll[column] -= value
            found[i] = {"exact": int(first[:-1].all()), "stops": int(first[-1])}
            found[i] |= {column: round(value, 4) for column, value in nll.items()}
    return {"id": [row["id"] for row in rows]} | {c: [row[c] for row in found] for c in found[0]}


@torch.no_grad()
def written(model, tokenizer, name: str, rows: list[dict], longest: int = 64) -> dict:
    """What the model writes greedily, in at most `longest` tokens.

    For each row 0 or 1: whether it wrote the end token (`stops`), exactly the right answer (`right`), that
    and perhaps more (`begins_right`), and a JSON object as the task asks for (`valid`). Of the first few also
    the `replies` as they are, special tokens too.
    """
    prompts = [
        tokenizer(prompt(tokenizer, name, row["text"]), add_special_tokens=False)["input_ids"] for row in rows
    ]
    prefix = prefixes.shared(prompts)
    with evaluation_mode(model):
        rest, mask = chat.pad_left(tokenizer, [ids[len(prefix) :] for ids in prompts])
        front = torch.tensor([prefix] * len(rows), dtype=rest.dtype).reshape(len(rows), -1)
        ids, mask = torch.cat([front, rest], 1), torch.cat([torch.ones_like(front), mask], 1)
        output = model.generate(
            input_ids=ids,
            attention_mask=mask,
            past_key_values=prefixes.repeated(prefixes.cache_of(model, prefix), len(rows)),
            max_new_tokens=longest,
            do_sample=False,
            use_cache=True,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )[:, ids.shape[1] :].tolist()
    return judged(tokenizer, rows, output)


def judged(tokenizer, rows: list[dict], replies: list[list[int]]) -> dict:
    """`written`'s result for replies in token ids; what follows an end token is not part of a reply."""
    result: dict[str, list] = {k: [] for k in ("id", "stops", "right", "begins_right", "valid", "replies")}
    for row, ids in zip(rows, replies, strict=True):
        stops = tokenizer.eos_token_id in ids
        ids = ids[: ids.index(tokenizer.eos_token_id)] if stops else ids
        text = tokenizer.decode(ids).strip()
        result["id"].append(row["id"])
        result["stops"].append(int(stops))
        result["right"].append(int(text == tickets.answer(row)))
        result["begins_right"].append(int(text.startswith(tickets.answer(row))))
        result["valid"].append(int(tickets.parse(text) is not None))
        result["replies"].append(text + (tokenizer.eos_token if stops else ""))
    result["replies"] = result["replies"][:REPLIES_KEPT]
    return result


def test_sets() -> dict[str, list[dict]]:
    """What formats are compared on: a row of each family of test_lookalike, every third production row."""
    return {
        "test_lookalike": tickets.one_of_each_family(tickets.load("test_lookalike")),
        "test_production": tickets.load("test_production")[::3],
    }


def spread(rows: list[dict], size: int) -> list[dict]:
    """So many of the rows, at equal distances."""
    return rows[:: len(rows) // size][:size]
