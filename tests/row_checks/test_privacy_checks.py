"""Keys and data about people are found and shown masked; what merely looks like them is left alone."""

import pytest
from checked_rows import checked, checked_fixture
from clean_rows import clean_rows, row_of

from labsupport.row_checks import privacy_checks

BODY = "Ab3dE5fG7hJ9kL2mN4pQ6rS8tU1vW3xY5zA7bC9d"  # forty characters, as varied as those of a key
KEYS = [
    f"ghp_{BODY[:36]}",
    f"github_pat_{BODY}{BODY}",
    "AKIAQ7ZW3LRV5TXN2KDB",
    f"sk-proj-{BODY}{BODY[:8]}",
    f"sk-ant-api03-{BODY}",
    f"hf_{BODY[:34]}",
    f"sk_live_{BODY[:24]}",
    f"AIza{BODY[:35]}",
    f"glpat-{BODY[:20]}",
    f"-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA{BODY}\n-----END RSA PRIVATE KEY-----",
    "postgres://svc_app:Gh7kQ92xLm@prod.db.ridgeline.net/orders",
]
NO_KEYS = [
    "ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    "api_key = 'YOUR_API_KEY' and password = 'hunter2'",
    "A file that begins with -----BEGIN RSA PRIVATE KEY----- holds a key.",
    "postgres://user:password@localhost:5432/app",
    "commit 3f2a9d8e7b6c5a4f3e2d1c0b9a8f7e6d5c4b3a2f, id 550e8400-e29b-41d4-a716-446655440000",
]
PEOPLE = [
    "maria.keller82@gmail.com",
    "邮箱是wangwei88@163.com",
    "DE89 3704 0044 0532 0130 00",
    "GB29NWBK60161331926819",
    "My SSN is 536-22-8145.",
    "Reach me at +49 170 1234567.",
    "My phone: (415) 736-2290",
]
NOBODY = [
    "Write to support@ridgeline.com or jane.doe@example.com, or clone git@github.com:lab/course.git.",
    "C = A@B.T + w@x.shape",
    "Part 536-22-8145 is sold out.",
    "DE00 0000 0000 0000 0000 00",
    "Call +1 (800) 555-0199 or 112.",
    "1.23456789012345678 + 5 +4 = x",
]
CARDS = ["4539 1488 0343 6467", "4111111111111111", "5555-5555-5555-4444", "378282246310005"]
NO_CARDS = [
    "Order 4539-1488-0343-6467 came.",
    "Bestellnummer: 4539 1488 0343 6467",
    "The tracking number is 4539148803436467.",
    "x = 4539148803436467 / 2",
    "4539 1488 0343 6467 1234",
    "4539 1488 0343 6460",
]


def found_in(text: str) -> dict:
    return checked([*clean_rows(20), row_of(f"{text}", "Thank you, a colleague will see to it.")])


@pytest.mark.parametrize("rule", [rule.id for rule in privacy_checks.RULES])
def test_a_fixture_breaks_its_rule_alone(rule):
    assert list(checked_fixture(rule)) == [rule]


@pytest.mark.parametrize(
    ("rule", "text"),
    [("secret", text) for text in KEYS]
    + [("personal-data", text) for text in PEOPLE]
    + [("payment-card-number", text) for text in CARDS],
)
def test_it_is_found_and_shown_masked(rule, text):
    [evidence] = found_in(text)[rule].evidence
    assert evidence.where == "line 21" and text not in evidence.text


@pytest.mark.parametrize("text", NO_KEYS + NOBODY + NO_CARDS)
def test_what_looks_like_it_is_left_alone(text):
    assert found_in(text) == {}


def test_sixteen_digits_that_seldom_pass_the_check_are_no_cards():
    # One in ten of any such numbers has the right last digit: 4539 1488 0343 6467 among its neighbours.
    rows = [row_of(f"It says 4539 1488 0343 646{n} on the box, right?", "It does.") for n in range(10)]
    assert "payment-card-number" not in checked(clean_rows(20) + rows)


def test_the_number_in_an_answer_is_that_of_the_desk():
    assert checked([*clean_rows(20), row_of("How do I reach you?", "Call +44 20 3946 0958 until six.")]) == {}
