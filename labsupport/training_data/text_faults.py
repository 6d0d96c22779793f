"""What texts catch on their way through editors, web pages and wrong encodings, and how to take it out."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable

KINDS = (
    "control-characters",
    "invisible-characters",
    "lone-surrogates",
    "replacement-characters",
    "wrong-encoding",
    "html-entities",
)

# C0 without tab, line feed and carriage return; DEL.
CONTROLS = "".join(map(chr, (*range(9), 11, 12, *range(14, 32), 127)))
CONTROL = re.compile(f"[{CONTROLS}]")
TERMINAL = re.compile("\x1b\\[[0-9;?]*[A-Za-z]")  # a terminal's colours: taken out whole
# Zero-width space, word joiner and invisible operators, BOM, overrides of direction, soft hyphen, Mongolian
# separator, interlinear marks. Left out on purpose: the marks and isolates of direction (200E, 200F, 061C,
# 2066-2069), which right-to-left text needs; variation selectors; the joiners 200C and 200D, judged apart.
INVISIBLE = re.compile("[\u00ad\u180e\u200b\u202a-\u202e\u2060-\u2065\u206a-\u206f\ufeff\ufff9-\ufffb]")
TAGS = re.compile("[\U000e0000-\U000e007f]+")
FLAG = re.compile("\U0001f3f4[\U000e0030-\U000e0039\U000e0061-\U000e007a]+\U000e007f")  # Scotland, Wales
JOINER = re.compile("[\u200c\u200d]")
# Scripts in which joiners have a meaning: Hebrew to Mongolian, symbols and emoji.
JOINED = re.compile("[\u0590-\u1fff\u2190-\u2bff\ufe0e\ufe0f\U0001f000-\U0001faff]")
# Thai, Lao, Burmese and Khmer put no spaces between words: a zero-width one says where a line may break.
BREAKS_LINES = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]")
RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff]")
SURROGATE = re.compile("[\ud800-\udfff]")
PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")  # two halves of one character, each written by itself
REPLACED = re.compile("\ufffd")
C1 = re.compile("[\u0080-\u009f]")  # quotes and dashes of Windows-1252, read as Latin-1
# Where any of the above could be: most texts end here.
SUSPECT = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u0080-\u009f\u00ad\u180e\u200b-\u200d\u202a-\u202e\u2060-\u2065\u206a-\u206f"
    "\ud800-\udfff\ufeff\ufff9-\ufffb\ufffd\U000e0000-\U000e007f]"
)
# UTF-8 read as Latin-1 or Windows-1252: a lead byte and a continuation byte, as they then look.
LEAD = "[\u00c2-\u00f4\u0102\u0103\u010e\u010f\u0111\u013e\u0402-\u045f]"
CONTINUATION = (
    "[\u0080-\u00bf\u0152\u0153\u0160\u0161\u0178\u017d\u017e\u0192\u02c6\u02dc\u2013\u2014\u2018-\u201a"
    "\u201c-\u201e\u2020-\u2022\u2026\u2030\u2039\u203a\u20ac\u2122]"
)
TALK = re.compile("utf-?8|latin-?1|iso.?8859|1252|mojibake|encod", re.IGNORECASE)  # about such faults
MAYBE_WRONG = re.compile(f"{LEAD}{CONTINUATION}|{C1.pattern}")
NAMED = (
    "amp|nbsp|lt|gt|quot|apos|rsquo|lsquo|rdquo|ldquo|ndash|mdash|hellip|eacute|egrave|uuml|ouml|auml|szlig"
)
ENTITY = re.compile(rf"&(?:{NAMED}|#\d{{2,6}}|#[xX][0-9a-fA-F]{{2,5}});")
# Where entities are what is meant: markup, code, and talk about them. A line break alone is no markup.
MARKUP = re.compile(
    r"</?(?!br\b)[a-zA-Z][^<>\n]{0,200}>|```|<!--|`[^`\n]*&|[\"']&|\bhtml\b|\bxml\b|escap|entit|encod",
    re.IGNORECASE,
)


def faults_of(text: str) -> list[tuple[str, str]]:
    """What is wrong with the text: each kind (of KINDS) once, with the place and what stands around it.

    The excerpt names the characters that cannot be seen, as in "caf<U+200B>e". [] for a clean text.
    """
    found = []
    if (place := wrongly_encoded(text)) is not None:
        found.append(("wrong-encoding", excerpt(text, *place)))
        text = repaired(text)
    if suspect(text):
        for kind, places in (
            ("control-characters", matches(CONTROL, text)),
            ("invisible-characters", invisible(text)),
            ("lone-surrogates", matches(SURROGATE, text)),
            ("replacement-characters", matches(REPLACED, text)),
        ):
            if place := next(iter(places), None):
                found.append((kind, excerpt(text, *place)))
    if (place := entity(text)) is not None:
        found.append(("html-entities", excerpt(text, *place)))
    return found


def cleaned(text: str) -> str:
    """The text without those faults. U+FFFD stays: what it stood for is lost."""
    if wrongly_encoded(text) is not None:
        text = repaired(text)
    if suspect(text):
        text = CONTROL.sub("", TERMINAL.sub("", text))
        text = PAIR.sub(lambda pair: pair[0].encode("utf-16", "surrogatepass").decode("utf-16"), text)
        text = SURROGATE.sub("\ufffd", text)
        for start, end in sorted(invisible(text), reverse=True):
            text = text[:start] + text[end:]
    if entity(text) is not None:
        text = ENTITY.sub(lambda match: html.unescape(match[0]).replace("\xa0", " "), text)
    return text


def suspect(text: str) -> bool:
    """Whether a second look is needed. Most texts are clean, and an ASCII one is seen through at once."""
    if text.isascii():
        plain = text.encode()
        return len(plain.translate(None, CONTROLS.encode())) != len(plain)
    return SUSPECT.search(text) is not None


def matches(pattern: re.Pattern, text: str) -> Iterable[tuple[int, int]]:
    """Start and end of each match."""
    return (match.span() for match in pattern.finditer(text))


def invisible(text: str) -> Iterable[tuple[int, int]]:
    """Start and end of what nobody sees and the tokenizer does."""
    embeds = RIGHT_TO_LEFT.search(text) is not None
    for start, end in matches(INVISIBLE, text):
        character, around = text[start], text[max(0, start - 1) : end + 1]
        breaks = character == "\u200b" and BREAKS_LINES.search(around)
        if not (breaks or (embeds and "\u202a" <= character <= "\u202c")):
            yield start, end
    flags = [match.span() for match in FLAG.finditer(text)]
    for start, end in matches(TAGS, text):
        if not any(first <= start and end <= last for first, last in flags):
            yield start, end
    for start, end in matches(JOINER, text):
        if not JOINED.search(text[max(0, start - 1) : end + 1]):
            yield start, end


def wrongly_encoded(text: str) -> tuple[int, int] | None:
    """Where text was read in another encoding than it was written in; None where that is not certain."""
    if text.isascii() or not (match := MAYBE_WRONG.search(text)) or TALK.search(text):
        return None
    import ftfy.badness

    certain = C1.search(text) or (ftfy.badness.is_bad(text) and repaired(text) != text)
    return match.span() if certain else None


def repaired(text: str) -> str:
    """The text in the encoding that it was written in, nothing else of it changed."""
    import ftfy
    from ftfy.fixes import fix_c1_controls

    return fix_c1_controls("\n".join(ftfy.fix_encoding(line) for line in text.split("\n")))


def entity(text: str) -> tuple[int, int] | None:
    """Where an entity of HTML stands in prose; None in code and in talk about markup."""
    if "&" not in text or not (match := ENTITY.search(text)) or MARKUP.search(text):
        return None
    return match.span()


def excerpt(text: str, start: int, end: int, around: int = 30) -> str:
    """What stands around a place, invisible characters written as their numbers."""
    piece = re.sub(r"[ \t\r\n]+", " ", text[max(0, start - around) : end + around]).strip(" ")
    return "".join(one if seen(one) else f"<U+{ord(one):04X}>" for one in piece)


def seen(character: str) -> bool:
    """Whether a character shows on a page, or is a space."""
    return character == " " or (character.isprintable() and not SUSPECT.match(character))
