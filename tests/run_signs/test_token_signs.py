"""Signs in rows as the trainer feeds them, each on rows that have it and on rows that have it not."""

import pytest
import torch
from made_runs import conversation, made, ticket_rows, with_ids

from labsupport.run_folders.run_folder import opened
from labsupport.run_rows.fed_rows import fed_rows
from labsupport.run_signs import token_signs

LONG = "It took a while, and I write it all down so that you know how it went with the delivery. " * 8


def found(folder, **parts) -> dict[str, str]:
    """Cause -> strength of the signs in the rows of a run made so."""
    run = opened(made(folder, **parts))
    signs = sorted(token_signs.signs(run), key=lambda sign: sign.strength == "proves")
    return {sign.cause: sign.strength for sign in signs}


def as_messages(rows: list[dict]) -> list[dict]:
    return [{"messages": row["prompt"] + row["completion"]} for row in rows]


def parts_of(row: dict) -> tuple[str, str]:
    return row["prompt"][0]["content"], row["completion"][0]["content"]


def with_long_prompts(rows: list[dict]) -> list[dict]:
    return [conversation(LONG + asked, answered) for asked, answered in map(parts_of, rows)]


def test_prompt_and_completion_as_messages_show_nothing(tmp_path):
    assert found(tmp_path, train=ticket_rows(20)) == {}


def test_long_answers_in_messages_show_nothing(tmp_path):
    rows = [conversation(asked, LONG) for asked, _ in map(parts_of, ticket_rows(10))]
    assert found(tmp_path, train=as_messages(rows)) == {}


# ---------------------------------------------------------------- truncated


def test_answers_that_are_cut_off(tmp_path):
    rows = with_long_prompts(ticket_rows(10)) + ticket_rows(10, 10)
    assert found(tmp_path / "cut", train=rows, arguments={"max_length": 120}) == {"truncated": "proves"}
    assert found(tmp_path / "whole", train=rows, arguments={"max_length": 1024}) == {}
    assert found(tmp_path / "none", train=rows, arguments={"max_length": None}) == {}


def test_answers_that_are_cut_off_where_everything_is_trained(tmp_path):
    rows = as_messages(with_long_prompts(ticket_rows(20)))
    assert found(tmp_path, train=rows, arguments={"max_length": 120})["truncated"] == "proves"


def test_answers_that_lose_their_end(tmp_path):
    rows = [conversation("Tell me how it went, please.", LONG) for _ in range(10)]
    assert found(tmp_path, train=rows, arguments={"max_length": 100})["truncated"] == "proves"


def test_a_few_long_rows_are_no_cause(tmp_path):
    rows = with_long_prompts(ticket_rows(1)) + ticket_rows(40, 1)
    assert found(tmp_path, train=rows, arguments={"max_length": 120}) == {}


def test_rows_of_tokens_that_are_cut_off(tmp_path, tokenizer):
    ids = tokenizer(LONG + "<|im_end|>")["input_ids"]
    labels = [-100] * (len(ids) - 5) + ids[-5:]
    rows = [{"input_ids": ids, "labels": labels}] * 5
    assert found(tmp_path / "cut", train=rows, arguments={"max_length": 50}) == {"truncated": "proves"}
    assert found(tmp_path / "whole", train=rows) == {}


def test_documents_longer_than_max_length_are_no_answers(tmp_path):
    rows = [{"text": LONG + f"The {n}th of them."} for n in range(10)]
    assert found(tmp_path, train=rows, arguments={"max_length": 50}) == {}


def test_rows_of_a_trainer_that_cuts_nothing(tmp_path):
    """transformers' own Trainer has no max_length, and TRL's default is not assumed of it."""
    from transformers import TrainingArguments

    rows = with_long_prompts(ticket_rows(10))
    folder = made(tmp_path, train=[conversation(LONG * 8 + a, b) for a, b in map(parts_of, rows)])
    assert {sign.cause for sign in token_signs.signs(opened(folder))} == {"truncated"}
    torch.save(TrainingArguments(output_dir="run", use_cpu=True), folder / "training_args.bin")
    run = opened(folder)
    assert token_signs.signs(run) == [] and "never cut" in " ".join(run.notes)


def test_padding_is_no_part_of_a_row_of_tokens(tmp_path, tokenizer):
    asked, end = tokenizer("What is it? ")["input_ids"], tokenizer("A tent.<|im_end|>")["input_ids"]
    padding = [tokenizer.eos_token_id] * 30

    def row(labels):
        mask = [1] * (len(asked) + len(end)) + [0] * 30
        labels = [-100] * len(asked) + labels + [-100] * 30
        return {"input_ids": asked + end + padding, "attention_mask": mask, "labels": labels}

    assert found(tmp_path / "sound", train=[row(end)] * 10) == {}
    unended = [row([*end[:-1], -100])] * 10
    assert found(tmp_path / "masked", train=unended) == {"eos-not-learned": "proves"}


def chats(last: str) -> list[dict]:
    """Conversations of three answers, the last one as given."""
    rows = []
    for number in range(20):
        turns = []
        for turn, answer in enumerate(("It is a tent.", "It is a stove.", last)):
            turns.append({"role": "user", "content": f"And what is thing {number} on shelf {turn}?"})
            turns.append({"role": "assistant", "content": answer})
        rows.append({"messages": turns})
    return rows


def test_earlier_answers_are_not_what_is_asked(tmp_path):
    only = {"assistant_only_loss": True}
    assert found(tmp_path / "only", train=chats("A map."), arguments=only) == {}
    long = chats("A map.")
    for row in long:
        for turn in row["messages"]:
            turn["content"] *= 1 if turn["role"] == "user" else 20
    assert found(tmp_path / "all", train=long) == {}
    asked = chats("A map.")
    for row in asked:
        for turn in row["messages"]:
            turn["content"] *= 5 if turn["role"] == "user" else 1
    assert found(tmp_path / "asked", train=asked) == {"prompt-in-loss": "suggests"}


def test_a_conversation_that_loses_its_last_answer_alone_has_others(tmp_path):
    rows = chats("A map.")
    for row in rows[:2]:
        row["messages"][-2]["content"] = LONG
    only = {"assistant_only_loss": True, "max_length": 150}
    assert found(tmp_path, train=rows, arguments=only) == {}


# ---------------------------------------------------------------- the prompt in the loss


@pytest.mark.parametrize("form", ["messages", "setting", "text"])
def test_prompts_that_fill_the_loss(form, tmp_path, tokenizer):
    rows = ticket_rows(10)
    arguments = {"completion_only_loss": False} if form == "setting" else {}
    if form != "setting":
        rows = as_messages(rows)
    if form == "text":
        rows = [{"text": tokenizer.apply_chat_template(row["messages"], tokenize=False)} for row in rows]
    strength = "proves" if form == "setting" else "suggests"
    assert found(tmp_path, train=rows, arguments=arguments) == {"prompt-in-loss": strength}


@pytest.mark.parametrize(("wrong", "named"), [(0, {}), (4, {"prompt-in-loss": "suggests"})])
def test_where_the_replies_are_right_the_loss_on_the_prompt_did_no_harm(wrong, named, tmp_path):
    rows, asked = as_messages(ticket_rows(10)), with_ids(as_messages(ticket_rows(10, 20)))
    replies = [{"id": row["id"], "reply": row["messages"][-1]["content"]} for row in asked]
    replies = [reply | ({"reply": "{}"} if place < wrong else {}) for place, reply in enumerate(replies)]
    folder = made(tmp_path, train=rows, asked=asked, replies=replies)
    run = opened(folder)
    assert {sign.cause: sign.strength for sign in token_signs.signs(run)} == named
    assert named or "replies are right" in run.notes[-1]


# ---------------------------------------------------------------- the end of a turn


def test_an_end_that_is_masked_in_the_labels(tmp_path, tokenizer):
    def row(asked, answered, masked):
        ids = tokenizer(f"{asked}{answered}<|im_end|>")["input_ids"]
        prompt = len(tokenizer(asked)["input_ids"])
        labels = [-100] * prompt + ids[prompt:]
        return {"input_ids": ids, "labels": labels[:-1] + [-100] if masked else labels}

    for masked in (True, False):
        rows = [row(*parts_of(one), masked) for one in ticket_rows(8)]
        signs = found(tmp_path / f"{masked}", train=rows)
        assert signs == ({"eos-not-learned": "proves"} if masked else {})


def test_tokens_without_an_end(tmp_path, tokenizer):
    rows = [{"input_ids": tokenizer(" ".join(parts_of(row)))["input_ids"]} for row in ticket_rows(8)]
    assert found(tmp_path, train=rows) == {"eos-not-learned": "proves"}


def test_a_template_whose_markers_leave_the_end_out(tmp_path):
    folder = made(tmp_path, train=as_messages(ticket_rows(8)), arguments={"assistant_only_loss": True})
    marked = "{% generation %}{{ m.content }}{% endgeneration %}{{ '<|im_end|>' }}"
    inside = "{% generation %}{{ m.content + '<|im_end|>' }}{% endgeneration %}"
    for answer, expected in ((marked, {"eos-not-learned"}), (inside, set())):
        (folder / "chat_template.jinja").write_text(
            "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}{% if m.role == 'assistant' %}"
            + answer
            + "{% else %}{{ m.content + '<|im_end|>' }}{% endif %}{{ '\\n' }}{% endfor %}"
            "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
        )
        assert {sign.cause for sign in token_signs.signs(opened(folder))} == expected


# ---------------------------------------------------------------- another format


ALPACA = "### Instruction:\n{}\n\n### Response:\n"
FORMS = {
    "alpaca": ALPACA,
    "by hand": "user: {}\nassistant: ",
    "llama 3": "<|start_header_id|>user<|end_header_id|>\n\n{}<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n",
}


@pytest.mark.parametrize("as_text", [True, False])
@pytest.mark.parametrize("form", FORMS)
def test_rows_in_another_format(form, as_text, tmp_path):
    rows = []
    for asked, answered in map(parts_of, ticket_rows(10)):
        prompt = FORMS[form].format(asked)
        rows.append({"text": prompt + answered} if as_text else {"prompt": prompt, "completion": answered})
    assert found(tmp_path / "alone", train=rows)["template-mismatch"] == "suggests"
    asked = with_ids(ticket_rows(3, 50))
    assert found(tmp_path / "asked", train=rows, asked=asked)["template-mismatch"] == "proves"


def test_bare_strings_count_only_where_the_evaluation_asks_in_chat(tmp_path):
    rows = [dict(zip(("prompt", "completion"), parts_of(row), strict=True)) for row in ticket_rows(10)]
    assert found(tmp_path / "alone", train=rows) == {}
    assert found(tmp_path / "same", train=rows, asked=with_ids(rows[:2])) == {}
    chat = with_ids(ticket_rows(3, 50))
    assert found(tmp_path / "chat", train=rows, asked=chat) == {"template-mismatch": "proves"}


def test_text_that_the_models_own_template_wrote_is_no_other_format(tmp_path, tokenizer):
    rows = [
        {"text": tokenizer.apply_chat_template(row["prompt"] + row["completion"], tokenize=False)}
        for row in ticket_rows(10)
    ]
    assert "template-mismatch" not in found(tmp_path, train=rows)


def test_documents_are_no_format(tmp_path):
    assert found(tmp_path, train=[{"text": f"{LONG} {n}"} for n in range(10)]) == {}


def test_turns_that_were_rendered_twice(tmp_path):
    rows = [
        conversation(ALPACA.format(asked), answered) for asked, answered in map(parts_of, ticket_rows(10))
    ]
    assert found(tmp_path, train=rows) == {"template-mismatch": "proves"}


def test_without_a_template_nobody_can_ask_in_another(tmp_path):
    rows = [{"text": ALPACA.format(asked) + answered} for asked, answered in map(parts_of, ticket_rows(10))]
    folder = made(tmp_path, train=rows)
    (folder / "chat_template.jinja").unlink()
    assert "template-mismatch" not in {sign.cause for sign in token_signs.signs(opened(folder))}


# ---------------------------------------------------------------- without what it takes


def test_no_tokenizer_is_a_note_and_no_finding(tmp_path):
    run = opened(made(tmp_path, train=ticket_rows(5), tokenizer=False))
    assert token_signs.signs(run) == [] and any("tokenizer" in note for note in run.notes)


def test_the_answer_is_found_in_the_row(tmp_path, tokenizer):
    run = opened(made(tmp_path, train=ticket_rows(3)))
    for row, raw in zip(fed_rows(run), run.train_rows, strict=True):
        begin, end = row.answer
        assert tokenizer.decode(row.view.ids[begin:end]).startswith(raw["completion"][0]["content"])
        assert row.prompt_trained == 0 and row.answer_left == end - begin
