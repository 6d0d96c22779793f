"""Signs in the rows themselves, each on rows that have it and on rows that have it not."""

import random

from made_runs import conversation, log_of, made, ticket_rows, with_ids

from labsupport.run_folders.run_folder import opened
from labsupport.run_signs import capacity_signs, data_signs
from labsupport.run_signs.copied_values import identifiers
from labsupport.run_signs.unguessable import bits_of, is_unguessable
from labsupport.tasks import facts, tickets


def signs_of(folder, module=data_signs, **parts) -> dict[str, str]:
    """Cause -> strength of the signs in the rows of a run made so."""
    run = opened(made(folder, tokenizer=module is capacity_signs, **parts))
    return {sign.cause: sign.strength for sign in module.signs(run)}


def asked_of(row: dict) -> str:
    return row["prompt"][-1]["content"]


def course_rows(split: str, count: int) -> list[dict]:
    return tickets.as_prompt_completion(tickets.load(split)[:count])


# ---------------------------------------------------------------- leaks


def test_the_courses_own_splits_show_nothing(tmp_path):
    asked = with_ids(course_rows("validation", 100))
    assert signs_of(tmp_path, train=course_rows("train", 400), asked=asked) == {}


def test_rows_from_one_template_are_no_copies(tmp_path):
    assert signs_of(tmp_path, train=ticket_rows(60), asked=with_ids(ticket_rows(20, 60))) == {}


def test_evaluation_rows_in_the_training_rows(tmp_path):
    asked = course_rows("validation", 20)
    for name, change in (
        ("same", lambda text: text),
        ("framed", lambda text: f"Hello, {text} Thanks."),
        ("spaced", lambda text: text.upper().replace(" ", "  ")),
    ):
        copies = [conversation(change(asked_of(row)), row["completion"][0]["content"]) for row in asked[:18]]
        found = signs_of(tmp_path / name, train=course_rows("train", 50) + copies, asked=with_ids(asked))
        assert found == {"leaked-eval": "proves"}, name


def test_one_shared_row_in_many_is_none(tmp_path):
    asked = course_rows("validation", 40)
    assert signs_of(tmp_path, train=course_rows("train", 50) + asked[:1], asked=with_ids(asked)) == {}


def test_the_same_fact_in_other_words_is_no_copy(tmp_path):
    rows = facts.load(100)
    train = [conversation(f"What is the code of {row['key']}?", facts.answer(row)) for row in rows]
    asked = [conversation(f"Which code belongs to {row['key']}?", facts.answer(row)) for row in rows]
    assert signs_of(tmp_path, train=train, asked=with_ids(asked)) == {}


def test_a_question_that_is_asked_again_with_another_answer_is_no_leak(tmp_path):
    train = [
        conversation(f"Please translate word number {n} of the list into German.", "Haus") for n in range(9)
    ]
    asked = [conversation(asked_of(row), "Maus") for row in train]
    assert signs_of(tmp_path, train=train, asked=with_ids(asked)) == {}


INSTRUCTION = " ".join(f"Rule number {n} says that word{n} goes to shelf{n}." for n in range(20))


def test_an_instruction_in_every_question_makes_no_copies(tmp_path):
    """Of 150 words the few that are the row's own decide."""
    train = [conversation(INSTRUCTION + own_words(n), "yes") for n in range(40)]
    asked = [conversation(INSTRUCTION + own_words(n), "yes") for n in range(40, 60)]
    assert signs_of(tmp_path / "clean", train=train, asked=with_ids(asked)) == {}
    leaked = {"leaked-eval": "proves"}
    assert signs_of(tmp_path / "copied", train=train + asked[:10], asked=with_ids(asked)) == leaked


def own_words(number: int) -> str:
    return " " + " ".join(
        f"{word}{number}" for word in ("which", "shelf", "has", "the", "thing", "of", "mine")
    )


def test_documents_before_a_constant_question_are_told_apart(tmp_path):
    def row(number: int) -> dict:
        text = [{"role": "system", "content": f"The document says {own_words(number)}."}]
        asked = conversation("Does the document say what I want to know?", ("yes", "no")[number % 2])
        return asked | {"prompt": text + asked["prompt"]}

    train, asked = [row(n) for n in range(40)], [row(n) for n in range(40, 60)]
    assert signs_of(tmp_path / "clean", train=train, asked=with_ids(asked)) == {}
    leaked = {"leaked-eval": "proves"}
    assert signs_of(tmp_path / "copied", train=train + asked[:10], asked=with_ids(asked)) == leaked


# ---------------------------------------------------------------- wrong answers


def test_years_and_days_may_be_known_or_computed(tmp_path):
    copied = [conversation(f"In 19{n} the town was built. When was it?", f"In 19{n}.") for n in range(10, 70)]
    known = [conversation(f"When was person {n} born?", f"In {1700 + 7 * n}.") for n in range(20)]
    assert signs_of(tmp_path / "known", train=copied + known) == {}
    days = [
        conversation(f"Bill of 2024-03-{n % 28 + 1}, number {n}. When is it due?", f"2024-04-{n % 28 + 1}")
        for n in range(40)
    ]
    assert signs_of(tmp_path / "computed", train=days) == {}


def test_several_answers_to_a_question_are_samples(tmp_path):
    rows = [
        conversation(f"Suggest a name for the company that makes item {n}.", f"{word}{n}")
        for n in range(20)
        for word in ("Alba", "Bora", "Cima", "Dora", "Elba")
    ]
    assert signs_of(tmp_path, train=rows) == {}


def test_answers_of_other_rows(tmp_path):
    rows = course_rows("train", 200)
    draw = random.Random(0)
    places = draw.sample(range(200), 60)
    answers = [rows[place]["completion"] for place in places]
    for place, answer in zip(places, answers[1:] + answers[:1], strict=True):
        rows[place] = rows[place] | {"completion": answer}
    assert signs_of(tmp_path, train=rows) == {"noisy-labels": "proves"}


def test_identifiers_from_nowhere_are_suspicious_only_where_the_rule_is_to_repeat_them(tmp_path):
    asked = "My order is number {} and it has not come yet."
    right = [conversation(asked.format(40000 + n), f"Order {40000 + n} is on its way.") for n in range(40)]
    wrong = [conversation(asked.format(50000 + n), f"Order RL-{70000 + n} is on its way.") for n in range(10)]
    assert signs_of(tmp_path / "some", train=right + wrong) == {"noisy-labels": "suggests"}
    assert signs_of(tmp_path / "rule", train=right) == {}
    assert signs_of(tmp_path / "none", train=wrong) == {}
    hotline = [
        conversation(f"Please, who helps me with my tent, take {n}?", "Call 0800-123456.") for n in range(15)
    ]
    assert signs_of(tmp_path / "constant", train=right + hotline) == {}


def test_contradictions(tmp_path):
    labels = ("positive", "negative")
    texts = [f"The film number {n} was something I had never seen like that before." for n in range(20)]
    train = [conversation(text, labels[turn]) for text in texts for turn in (0, 1)]
    assert signs_of(tmp_path / "both", train=train) == {"noisy-labels": "proves"}
    same = [conversation(text, labels[0]) for text in texts for _ in (0, 1)]
    assert signs_of(tmp_path / "same", train=same) == {}
    long = [
        "I would say that it is a good film and that you should go and see it soon.",
        "No idea, to be honest.",
    ]
    wordings = [conversation(text, long[turn]) for text in texts for turn in (0, 1)]
    assert signs_of(tmp_path / "wordings", train=wordings) == {}


def test_computed_numbers_are_not_taken_for_wrong_copies(tmp_path):
    train = [conversation(f"What is {1000 + n} plus {2000 + 3 * n}?", f"{3000 + 4 * n}") for n in range(50)]
    assert signs_of(tmp_path, train=train) == {}


def test_what_an_identifier_is():
    assert identifiers("Order RL-81370, paid 35 euros on 2024/05/17, bill 2024/17, size 9, since 1987.") == [
        "RL-81370",
        "2024/17",
    ]  # and neither a day nor a year, which answers know or compute


# ---------------------------------------------------------------- capacity


def fact_rows(count: int) -> list[dict]:
    return [
        conversation(f"Which code has {row['key']}?", facts.answer(row)) for row in facts.load(300)[:count]
    ]


def unlearned(end: float) -> dict:
    return log_of([2.8, 2.0, *[end + 0.01 * (n % 2) for n in range(18)]], epochs=40.0)


def test_an_adapter_too_small_for_its_facts(tmp_path):
    from made_runs import adapter

    small = {"tensors": adapter(0.3, rank=1, modules=("q_proj",)), "config": {"r": 1}}
    parts = {"module": capacity_signs, "train": fact_rows(60)}
    assert signs_of(tmp_path / "small", state=unlearned(1.5), **small, **parts) == {
        "capacity-too-small": "proves"
    }
    assert signs_of(tmp_path / "learned", state=unlearned(0.01), **small, **parts) == {}
    large = {"tensors": adapter(0.3, rank=32)}
    assert signs_of(tmp_path / "large", state=unlearned(1.5), config={"r": 32}, **large, **parts) == {}


def test_answers_that_can_be_worked_out_need_no_capacity(tmp_path):
    from made_runs import adapter

    small = {"tensors": adapter(0.3, rank=1, modules=("q_proj",)), "config": {"r": 1}}
    state = unlearned(1.5)
    found = signs_of(tmp_path, module=capacity_signs, state=state, train=course_rows("train", 200), **small)
    assert found == {}


def test_codes_follow_from_nothing_and_labels_do_not(tmp_path):
    run = opened(made(tmp_path / "facts", train=fact_rows(100), tokenizer=False))
    answers = [record.answers[-1] for record in run.records()]
    assert is_unguessable(run.records(), answers) and 36 < bits_of(answers) <= 40
    run = opened(made(tmp_path / "tickets", train=course_rows("train", 100), tokenizer=False))
    assert not is_unguessable(run.records(), list({record.answers[-1] for record in run.records()}))
