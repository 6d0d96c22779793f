"""Characters that do not belong into a text are found and taken out; those of other scripts stay."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labsupport.training_data.text_faults import cleaned, faults_of

FAULTY = [
    ("control-characters", "LaTeX \x0crac{1}{2}", "LaTeX rac{1}{2}"),
    ("control-characters", "\x1b[31mred\x1b[0m", "red"),
    ("invisible-characters", "zero\u200bwidth", "zerowidth"),
    ("invisible-characters", "中\u200b文", "中文"),
    ("invisible-characters", "\ufeffWort\u00adteil", "Wortteil"),
    ("invisible-characters", "hidden\U000e0041\U000e0042", "hidden"),
    ("invisible-characters", "a\u202egnp.exe", "agnp.exe"),
    ("invisible-characters", "Latin\u200djoiner", "Latinjoiner"),
    ("lone-surrogates", "half \ud83d", "half \ufffd"),
    ("lone-surrogates", "pair \ud83d\ude00", "pair 😀"),
    ("wrong-encoding", "cafÃ© crÃ¨me", "café crème"),
    ("wrong-encoding", "donâ€™t", "don’t"),
    ("wrong-encoding", "GrÃ¶ÃŸe", "Größe"),
    ("wrong-encoding", "ä¸\u00adæ–‡", "中文"),
    ("wrong-encoding", "ÐŸÑ€Ð¸Ð²ÐµÑ‚", "Привет"),
    ("wrong-encoding", "It\x92s", "It’s"),
    ("html-entities", "Tom &amp; Jerry&nbsp;show", "Tom & Jerry show"),
    ("html-entities", "One<br>two &#39;three&#39;", "One<br>two 'three'"),
]
RIGHT = [
    "Voilà l'été : déjà vu, « français » — coûte 5 €…",
    "PÂTÉ À LA CARTE, NOËL, CRÈME BRÛLÉE",
    "Größe, Straße, „quoted“ – 20 °C",
    "São Paulo: ação, AÇÃO",
    "İstanbul ŞİŞLİ, Đà Nẵng, Živjeli",
    "中文测试，标点。 日本語のテスト。 한국어",
    "Привет, мир № 5 «да»; Їжак’я",
    "Τι «κάνεις»; Άλφα",
    "∀x∈ℝ: x² ≥ 0 ± ½ × 3 ÷ 4 → ∑, 3×10⁻⁸ m³ Å Ω µΩ",
    "می\u200cخواهم کتاب\u200cها",
    "क्\u200dष हिन्दी",
    "ไทย\u200bภาษา",
    "\u202bعربي\u202c שלום \u200f!",
    "👨\u200d👩\u200d👧\u200d👦 ❤\ufe0f 🏳\ufe0f\u200d🌈",
    "🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",
    "x = a & b; AT&T\tand\r\nR&D",
    "Write <b>Tom &amp; Jerry</b> in HTML",
    "Escape & as &amp; in XML",
    "When UTF-8 is read as Latin-1, é becomes Ã©",
]


@pytest.mark.parametrize(("kind", "text", "clean"), FAULTY)
def test_a_fault_is_named_and_taken_out(kind, text, clean):
    assert [found for found, _ in faults_of(text)] == [kind]
    assert cleaned(text) == clean


@pytest.mark.parametrize("text", RIGHT)
def test_what_a_script_needs_is_no_fault_and_stays(text):
    assert faults_of(text) == [] and cleaned(text) == text


def test_a_lost_character_is_told_and_cannot_be_brought_back():
    assert faults_of("mother\ufffds") == [("replacement-characters", "mother<U+FFFD>s")]
    assert cleaned("mother\ufffds") == "mother\ufffds"


def test_an_excerpt_shows_the_place_and_names_what_cannot_be_seen():
    [(_, excerpt)] = faults_of("x" * 500 + " soft\u00adhyphen " + "y" * 500)
    assert "soft<U+00AD>hyphen" in excerpt and len(excerpt) < 90


@given(st.text(alphabet=st.characters(), max_size=60))
def test_a_cleaned_text_has_only_what_cannot_be_mended(text):
    left = {kind for kind, _ in faults_of(cleaned(text))}
    assert not left & {"control-characters", "lone-surrogates"}
    cleaned(text).encode("utf-8")


@given(
    st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126, exclude_characters="&"), max_size=200)
)
def test_plain_text_is_never_touched(text):
    assert faults_of(text) == [] and cleaned(text) == text
