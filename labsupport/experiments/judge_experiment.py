"""The course's small model as a judge of two answers: does it prefer the better one, the first, the longer?

The questions are those of data/policy's test rows that can be answered, each with its policy. The judge, the
untuned chat model, reads policy, question and two answers called A and B, and is asked for the letter of the
better one; what counts is the log-probability (nats) of "A" against that of "B". Every pair is asked in both
orders.
- wrong: the right answer against that to another question on the same policy, if it is wrong here;
- refusal: the right answer against the refusal;
- longer: the right answer against itself with a polite sentence that says nothing;
- same: the right answer against itself, which leaves the place alone.
Weights in float32, one thread. What a judge of 135M parameters shows are the biases and how to measure them.
"""

from __future__ import annotations

CELLS = [{"pair": pair} for pair in ("wrong", "refusal", "longer", "same")]
FILLER = " We are always happy to help, so please do not hesitate to get in touch with our friendly team."
QUESTION = (
    "Policy: {policy}\n\nQuestion: {question}\n\nAnswer A: {a}\n\nAnswer B: {b}\n\n"
    "Which answer is better, A or B? Reply with the letter only."
)


def run(cell: dict) -> dict:
    """For each question the judge's log-odds of A over B (nats) with the right answer first, and second."""
    import torch

    from labsupport.core import upstream
    from labsupport.models import base_model

    upstream.keep_freed_memory()
    torch.set_num_threads(1)
    model, tokenizer = base_model.load(dtype="float32")
    found = []
    for row, right, other in pairs(cell["pair"]):
        first = log_odds(model, tokenizer, row, right, other)
        second = log_odds(model, tokenizer, row, other, right)
        found.append({"id": row["id"], "right_first": round(first, 4), "right_second": round(second, 4)})
    return {"rows": found}


def pairs(kind: str) -> list[tuple[dict, str, str]]:
    """(row, right answer, the other) of every question that has such a pair."""
    from labsupport.tasks import policy

    rows = [row for row in policy.load("test") if row["answerable"]]
    result = []
    for row in rows:
        same_policy = [r["answer"] for r in rows if r["family"] == row["family"]]
        others = [answer for answer in same_policy if not policy.judge(row, answer)["right"]]
        if kind == "wrong" and not others:
            continue
        other = {
            "wrong": others[0] if others else "",
            "refusal": policy.REFUSAL,
            "longer": row["answer"] + FILLER,
            "same": row["answer"],
        }[kind]
        result.append((row, row["answer"], other))
    return result


def log_odds(model, tokenizer, row: dict, a: str, b: str) -> float:
    """log P("A") − log P("B") as the judge's next token, in nats."""
    import torch

    said = QUESTION.format(policy=row["policy"], question=row["question"], a=a, b=b)
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": said}], add_generation_prompt=True, return_dict=True
    )["input_ids"]
    letters = [tokenizer(letter, add_special_tokens=False)["input_ids"][0] for letter in "AB"]
    with torch.no_grad():
        last = model(input_ids=torch.tensor([ids]), logits_to_keep=1).logits[0, -1].float()
    return float(last[letters[0]] - last[letters[1]])
