"""Faults of answers and of the whole are found; verses, code, tables and other languages break no rule."""

import json
from pathlib import Path

import pytest
from checked_rows import checked, checked_fixture
from clean_rows import clean_rows, row_of
from seen_rows import records

from labsupport.findings.check import Run
from labsupport.row_checks import answer_checks, content_checks, text_checks

RULES = [rule.id for module in (content_checks, answer_checks, text_checks) for rule in module.RULES]

VARIED = [
    (
        "Wie gieße ich im Sommer?",
        "Gieße morgens, und zwar gründlich: einmal in der Woche zwanzig Liter je Strauch.",
    ),
    (
        "كيف أسقي الزيتون؟",
        "اسقِ شجرة الزيتون مرة واحدة في الأسبوع صيفًا، ولا تسقها في الشتاء إلا إذا جفت التربة تمامًا.",
    ),
    (
        "नींबू को कब पानी दूँ?",
        "गर्मियों में नींबू के पौधे को हर दूसरे दिन सुबह पानी दें, और सर्दियों में सप्ताह में केवल एक बार दें।",
    ),
    (
        "バラの剪定はいつですか。",
        "バラの剪定は二月の終わりごろ、新しい芽が動き出す前に行うのがよく、枯れた枝は根元から切り取ります。",
    ),
    (
        "เมื่อไหร่ควรรดน้ำ",
        "ควรรดน้ำต้นไม้ในตอนเช้าตรู่เพื่อให้ดินชุ่มชื้นตลอดวันและลดการระเหยของน้ำในช่วงบ่ายที่อากาศร้อนจัดมาก",
    ),
    (
        "Sum the beds.",
        "```python\ndef total(beds):\n    return sum(bed.area for bed in beds)  # {square} metres\n```",
    ),
    ("Which bed?", '{"bed": "north", "plants": ["kale", "leek"], "todo": null}'),
    (
        "As a table.",
        "| plant | litres |\n|---|---|\n| kale with a long description of what it needs in summer | 4 |",
    ),
    (
        "A verse on rain.",
        "The rain came down on bed and stone\nand left the gardener there alone\nwith nothing but",
    ),
    (
        "Integrate x.",
        r"The integral is \frac{x^{2}}{2} + C, as the derivative of x^{2} is 2x, so $\int x\,dx$ is "
        r"$\frac{x^2}{2}$",
    ),
    ("What is in the set?", "The set {a, b, c} has three elements, and its power set has eight of them."),
    ("Six pots hold 4 each?", "There are 6 * 4 = <<6*4=24>>24 seedlings.\n#### 24"),
    ("Translate: Hello {name}!", "Hallo {name}!"),
    (
        "Write a letter to my landlord about the hedge.",
        "Dear [Landlord's Name],\nthe hedge is mine.\nYours,\n[Your Name]",
    ),
    (
        "Can you change my order?",
        "I'm sorry, but I cannot change it without its number. Could you send it to me?",
    ),
    ("Todos los arbustos, ¿cuándo?", "Poda todos los arbustos en febrero, y los rosales también."),
    (
        "Who wrote it?",
        "Gärten sind die langsamste der darstellenden Künste, und die einzige, die duftet. – Anna Meier",
    ),
    (
        "Name three.",
        "Kale, leek, chard, beetroot, parsnip, swede, turnip, celeriac, salsify, radish and "
        "fennel, more or less",
    ),
]
CUT = "Water it once a week. Loosen the soil first, because clay keeps the water away from the roots and the"


@pytest.mark.parametrize("rule", RULES)
def test_a_fixture_breaks_its_rule_alone(rule):
    assert list(checked_fixture(rule)) == [rule]


def test_other_languages_code_tables_verses_and_forms_are_no_faults():
    found = checked(clean_rows(40) + [row_of(*pair) for pair in VARIED])
    assert {rule: [one.text for one in finding.evidence] for rule, finding in found.items()} == {}


def test_texts_without_a_prompt_are_looked_at_too():
    texts = [{"text": row["completion"][0]["content"]} for row in clean_rows(30)]
    assert checked(texts) == {}
    assert list(checked([*texts, {"text": "Nine lorem ipsum dolor sit amet."}])) == ["placeholder-left"]


def test_where_many_answers_have_no_stop_none_is_cut_off():
    rows = clean_rows(40)
    assert "answer-cut-off" in checked([*rows, row_of("And then?", CUT)])
    for row in rows[:30]:
        row["completion"][0]["content"] = row["completion"][0]["content"].removesuffix(".")
    assert "answer-cut-off" not in checked([*rows, row_of("And then?", CUT)])


def test_where_many_answers_are_cut_off_they_are_told():
    rows = clean_rows(60)
    for row in rows[:40]:
        answer = row["completion"][0]["content"]
        row["completion"][0]["content"] = (
            f"{answer} Wait for a dry week before you do that, and then take the"
        )
    found = checked(rows)
    assert found["answer-cut-off"].count == 40


@pytest.mark.parametrize(
    "end",
    ["We look forward to the roses in your garden. Yours sincerely, Jane Austen",
     "Send us a leaf of it in a letter with a stamp. With love and best wishes, [Your Name], Gardener",
     "It is warm and it rained, therefore the correct answer is option A"],
)  # fmt: skip
def test_names_below_a_letter_and_options_end_an_answer(end):
    assert "answer-cut-off" not in checked([*clean_rows(60), row_of("Please write it out.", end)])


def test_a_list_that_breaks_off_is_cut_off():
    end = "Do this:\n1. Dig in the autumn.\n2. Wait until spring, then spread the compost around each of the"
    assert "answer-cut-off" in checked([*clean_rows(60), row_of("How do I prepare a bed?", end)])


def test_a_text_that_is_a_letter_may_have_places_to_fill_in():
    texts = [{"text": row["completion"][0]["content"]} for row in clean_rows(30)]
    letter = {
        "text": "### Human: Write a letter to Ann.### Assistant: Dear Ann, it rained. Yours, [Your Name]"
    }
    assert "placeholder-left" not in checked([*texts, letter])


def test_a_few_refusals_are_a_policy():
    refusal = row_of(
        "Which weed killer works on my neighbour's cat?", "I'm sorry, but I can't help with that."
    )
    assert "many-refusals" not in checked([*clean_rows(60), refusal])


def test_few_labels_are_a_task_and_a_rare_one_is_worth_a_note():
    labels = ["water"] * 25 + ["pest"] * 20 + ["light"] * 12
    rows = clean_rows(60)
    for row, label in zip(rows, [*labels, "water", "light", "pets"], strict=True):
        row["completion"][0]["content"] = label
    found = checked(rows)
    assert list(found) == ["rare-labels"] and "'pets' (1)" in found["rare-labels"].evidence[0].text


@pytest.mark.parametrize("labels", [("1.5", "15", "-15"), ("C", "C#", "C++"), ("<", "<=", "=")])
def test_labels_that_differ_in_a_sign_are_different(labels):
    rows = clean_rows(60)
    for n, row in enumerate(rows):
        row["completion"][0]["content"] = labels[n % 3]
    assert checked(rows) == {}


def test_a_thousand_different_answers_are_no_labels_and_a_frequent_one_is_counted_right():
    check = content_checks.Labels(Run(Path("rows.jsonl"), "prompt_completion"))
    for n in range(20_000):
        for record in records([row_of("What is it?", "a weed" if n % 20 else f"plant number {n}")]):
            check.see(record)
    [told] = check.end()
    assert told.rule.id == "dominant-answer" and "19,000 of 20,000" in told.evidence.text


def test_objects_that_differ_in_spacing_are_not_labels_in_two_spellings():
    rows = clean_rows(60)
    for n, row in enumerate(rows):
        row["completion"][0]["content"] = json.dumps({"kind": n % 3}, indent=n % 2 or None)
    assert "label-variants" not in checked(rows)


def test_a_question_that_the_answer_takes_up_is_no_echo():
    row = row_of("Why do buds fall?", "Why do buds fall? Because nights are cold.")
    assert "prompt-echoed" not in checked([*clean_rows(20), row])
