"""Codes for one thing that do not agree."""

import random
import string

from labsupport.run_signs import data_signs
from labsupport.run_signs.shared_keys import odd_ones
from labsupport.training_data.record import Record

ASKED = ("{}", "Code for {}, please.", "What is the code of {}?")


def records(noise: float, ways=ASKED, names: int = 30) -> list[Record]:
    """A row for every name and phrasing; a share of them with another name's code."""
    rng = random.Random(0)
    codes = ["".join(rng.choices(string.ascii_uppercase, k=8)) for _ in range(names)]
    firsts, seconds = (
        ("mild", "bold", "lazy", "faint", "crisp", "odd"),
        ("bell", "river", "door", "cup", "hat"),
    )
    keys = [f"{a} {b}" for a in firsts for b in seconds][:names]
    rows = []
    for way in ways:
        for key, code in zip(keys, codes, strict=True):
            said = rng.choice(codes) if rng.random() < noise else code
            number = len(rows) + 1
            messages = [
                {"role": "user", "content": way.format(key)},
                {"role": "assistant", "content": said},
            ]
            rows.append(Record(number, f"row {number}", "messages", {}, messages))
    return rows


def test_rows_that_share_a_name_and_have_another_code_are_odd():
    found, count = odd_ones(records(0.3), [])
    codes = {record.answers[-1] for record in records(0.0)}
    assert 8 <= len(found) <= 30 and count > 50
    for odd, witness in found:
        assert odd.answers != witness.answers and odd.answers[-1] in codes
    (sign,) = data_signs.signs_of_rows(records(0.3), [])
    assert (sign.cause, sign.strength) == ("noisy-labels", "proves") and found[0][0].where in sign.text


def test_where_all_agree_or_nothing_is_asked_twice_nothing_is_odd():
    assert odd_ones(records(0.0), [])[0] == []
    assert odd_ones(records(0.4, ways=ASKED[:1]), [])[0] == []
    assert data_signs.signs_of_rows(records(0.02), []) == []


def test_an_evaluation_row_is_a_witness_too():
    noisy, clean = records(0.4, ways=ASKED[:2]), records(0.0, ways=("Which code belongs to {}?",))
    assert len(odd_ones(noisy, clean)[0]) > len(odd_ones(noisy, [])[0])
    assert all(id(odd) in {id(record) for record in noisy} for odd, _ in odd_ones(noisy, clean)[0])
