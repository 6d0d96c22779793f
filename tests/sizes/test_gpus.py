"""Graphics cards by the names that people give them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labsupport.core.files import LabError
from labsupport.sizes import gpus


@pytest.mark.parametrize(
    ("written", "card"),
    [
        ("l4", "l4"),
        (" L4 ", "l4"),
        ("NVIDIA L4", "l4"),
        ("L4 24GB", "l4"),
        ("T4 16GB", "t4"),
        ("Tesla T4", "t4"),
        ("A100-40GB", "a100-40"),
        ("a100 80gb", "a100-80"),
        ("A100-SXM4-80GB", "a100-80"),
        ("NVIDIA A100 80GB PCIe", "a100-80"),
        ("A100 80 GB", "a100-80"),
        ("A100_80", "a100-80"),
        ("RTX 4090", "4090"),
        ("rtx4090", "4090"),
        ("NVIDIA GeForce RTX 3090", "3090"),
        ("L40S (48GB)", "l40s"),
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("H100 SXM5", "h100"),
    ],
)
def test_a_card_is_found_as_people_write_it(written, card):
    assert gpus.find(written) is gpus.CARDS[card]


def test_every_card_is_found_by_its_name_and_by_what_it_is_sold_as():
    for name, card in gpus.CARDS.items():
        assert gpus.find(name.upper()) is gpus.find(card.sold_as) is card
        assert card.memory_gib <= gpus.sold_gb(card)


def test_a_name_that_stands_for_two_sizes_is_the_smaller_and_says_so():
    card = gpus.find("A100")
    assert (card.name, card.memory_gib) == ("a100-40", gpus.CARDS["a100-40"].memory_gib)
    assert "smaller" in card.sold_as and "a100-80 for 80 GB" in card.sold_as


@pytest.mark.parametrize("written", ["30", 30, 30.0, "30 GiB", "30gib", "30GB", "30G", " 30 gb ", "30720MiB"])
def test_a_size_alone_is_a_card_with_so_many_gib(written):
    card = gpus.find(written)
    assert (card.memory_gib, card.peak_tflops) == (30, None) and card.sold_as == "a card with 30 GiB"


def test_the_size_on_a_box_is_said_to_be_more_than_a_program_finds():
    card = gpus.find("24GB")
    assert card.memory_gib == 24 and "leaves programs 22" in card.sold_as
    assert gpus.find("24 GiB").sold_as == "a card with 24 GiB"


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("l5", ["'l5'", "nearest first: l4"]),
        ("RTX 4090 Laptop", ["'RTX 4090 Laptop'", "nearest first: 4090"]),
        ("4080", ["'4080'", "at most 1,000"]),  # a card's name, and no size
        ("L4 16GB", ["'L4 16GB'", "L4 has 24 GB"]),
        ("A100 48GB", ["'A100 48GB'", "40 or 80 GB"]),
        ("8xH100", ["'8xH100'", "several"]),
        ("2 x A100", ["'2 x A100'", "several"]),
        ("0", ["'0'", "above 0"]),
        ("-3", ["'-3'", "above 0"]),
        ("nan", ["'nan'"]),
        ("inf GB", ["'inf GB'"]),
        ("1e308", ["'1e308'"]),
        ("", ["''"]),
        ("x" * 100_000, ["There is no card 'xxx"]),
        (None, ["None"]),
    ],
)
def test_what_is_no_card_is_one_line(written, words):
    with pytest.raises(LabError) as caught:
        gpus.find(written)
    text = str(caught.value)
    assert all(word in text for word in words) and "\n" not in text and len(text) < 600


@given(st.one_of(st.text(), st.floats(), st.from_regex(r"(rtx|a100|h100)?[ -]?\d{1,5} ?(gb|gib|mb)?")))
def test_any_text_or_number_is_a_card_or_one_line(written):
    try:
        card = gpus.find(written)
    except LabError as error:
        assert "\n" not in str(error)
    else:
        assert 0 < card.memory_gib <= gpus.MOST_GIB
