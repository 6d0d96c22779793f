"""An evaluation script as people write one: rows made into prompts in some format, greedy replies in batches,
and how good they are. What may be wrong with an evaluation is an argument here."""

from __future__ import annotations

import json

import torch

from labsupport.format_runs import prompt_formats
from labsupport.models import chat
from labsupport.models.modes import evaluation_mode
from labsupport.tasks import tickets

# In the words of format_runs.prompt_formats: "{system}" and "{text}" are the messages.
FORMATS = {
    "template": prompt_formats.FORMATS["template"],
    "no_system": prompt_formats.FORMATS["no_system"],
    "plain": prompt_formats.FORMATS["hand_rolled"],
    "alpaca": prompt_formats.WITH_INPUT,
    "llama3": prompt_formats.LLAMA_3.removeprefix("<|begin_of_text|>"),  # a BOS that these bases have not
}
LEAD = {"plain": prompt_formats.LEAD["hand_rolled"]}
ROOM = 16  # tokens that a reply may be longer than the longest right answer


def prompt_text(tokenizer, row: dict, form: str) -> str:
    """A row's prompt as text, in a format of FORMATS."""
    system, user = row["prompt"]
    rendered = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, tokenize=False)
    result = FORMATS[form]
    for mark, value in (
        ("{template}", rendered),
        ("{system}", system["content"]),
        ("{text}", user["content"]),
    ):
        result = result.replace(mark, value, 1)
    return result


def expected(row: dict) -> str:
    """The right answer of a row."""
    return row["completion"][0]["content"]


def prompt_ids(tokenizer, rows: list[dict], form: str) -> list[list[int]]:
    """The rows' prompts as ids."""
    return [
        tokenizer(prompt_text(tokenizer, row, form), add_special_tokens=False)["input_ids"] for row in rows
    ]


@torch.no_grad()
def replies(model, tokenizer, rows: list[dict], form: str, batch: int, side: str) -> list[tuple[str, bool]]:
    """Greedy replies in the order of the rows, as (text without special tokens, whether it ended by itself).

    batch: rows at a time. side: where prompts of one batch are filled up to one length, "left" or "right";
    the mask tells the model what is filling either way.
    """
    prompts = prompt_ids(tokenizer, rows, form)
    answers = [tokenizer(expected(row), add_special_tokens=False)["input_ids"] for row in rows]
    longest, end, written = max(map(len, answers)) + ROOM, tokenizer.eos_token_id, []
    with evaluation_mode(model):
        for start in range(0, len(prompts), batch):
            padded = tokenizer.pad(
                {"input_ids": prompts[start : start + batch]}, padding_side=side, return_tensors="pt"
            )
            output = model.generate(
                **padded,
                max_new_tokens=longest,
                do_sample=False,
                eos_token_id=end,
                pad_token_id=tokenizer.pad_token_id,
            )[:, padded["input_ids"].shape[1] :].tolist()
            for ids in output:
                own = ids[: ids.index(end)] if end in ids else ids
                written.append((tokenizer.decode(own, skip_special_tokens=True).strip(), end in ids))
    return written


@torch.no_grad()
def losses(model, tokenizer, rows: list[dict], form: str, batch: int = 8) -> list[float]:
    """Negative log-likelihood of each row's right answer and the end token, in nats a token, with the prompt
    in the format of that name."""
    prompts = prompt_ids(tokenizer, rows, form)
    results = [0.0] * len(rows)
    examples = []
    for row, prompt in zip(rows, prompts, strict=True):
        answer = LEAD.get(form, "") + expected(row) + tokenizer.eos_token
        examples.append((prompt, tokenizer(answer, add_special_tokens=False)["input_ids"]))
    with evaluation_mode(model):
        for chosen in chat.batches([front + back for front, back in examples], batch):
            ids, mask = chat.pad_left(tokenizer, [examples[i][0] + examples[i][1] for i in chosen])
            keep = max(len(examples[i][1]) for i in chosen)
            places = (mask.cumsum(1) - 1).clamp(min=0)
            logits = model(
                input_ids=ids, attention_mask=mask, position_ids=places, logits_to_keep=keep + 1
            ).logits.float()
            for i, own in zip(chosen, logits[:, :-1], strict=True):
                targets = torch.tensor(examples[i][1])
                picked = own[-len(targets) :].log_softmax(-1).gather(-1, targets[:, None])
                results[i] = -float(picked.mean())
    return results


# ---------------------------------------------------------------- how good replies are


def judged(task: str, rows: list[dict], written: list[tuple[str, bool]], nats: list[float]) -> dict:
    """Of replies to rows: shares of `exact` ones, of right `parts` (of a ticket its four fields, of a fact
    its eight symbols in their places), of `valid` ones (JSON as asked for; eight symbols) and of those that
    `ended` by themselves; `loss`, nats a token of the right answers; number of `rows`."""
    part = tickets_part if task == "tickets" else facts_part
    found = [part(expected(row), text) for row, (text, _) in zip(rows, written, strict=True)]
    size = len(rows)
    return {
        "rows": size,
        "exact": round(
            sum(text == expected(row) for row, (text, _) in zip(rows, written, strict=True)) / size, 3
        ),
        "parts": round(sum(share for share, _ in found) / size, 3),
        "valid": round(sum(valid for _, valid in found) / size, 3),
        "ended": round(sum(ended for _, ended in written) / size, 3),
        "loss": round(sum(nats) / size, 4),
    }


def tickets_part(right: str, reply: str) -> tuple[float, bool]:
    """(share of the fields that are right, whether it is the JSON that the task asks for)."""
    label, truth = tickets.parse(reply), json.loads(right)
    if label is None:
        return 0.0, False
    return sum(label[field] == truth[field] for field in tickets.FIELDS) / len(tickets.FIELDS), True


def facts_part(right: str, reply: str) -> tuple[float, bool]:
    """(share of the symbols that are right in their places, whether there are as many as in a code)."""
    symbols, truth = reply.split(), right.split()
    same = sum(a == b for a, b in zip(symbols, truth, strict=False))
    return same / len(truth), len(symbols) == len(truth) and all(len(s) == 1 for s in symbols)
