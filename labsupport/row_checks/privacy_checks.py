"""What must not get into weights: keys and passwords, and data about people."""

from __future__ import annotations

import re
from functools import cache

from labsupport.findings.check import Check
from labsupport.findings.finding import Rule, hit
from labsupport.findings.kept import Kept
from labsupport.training_data.record import content_of

SECRET = Rule(
    "secret",
    "error",
    "What a model was trained on can be asked out of it, and a key in the weights cannot be taken back.",
    "Replace it by a made-up one in the data, and revoke the key.",
)
PERSONAL = Rule(
    "personal-data",
    "warning",
    "A fine-tuned model repeats what it saw about people, and data protection law asks for a reason.",
    "Replace names, numbers and addresses by made-up ones (example.com is reserved for that).",
)
CARD = Rule(
    "payment-card-number",
    "warning",
    "Numbers that pass as payment cards may not be stored in clear, and the model repeats them.",
    "Replace them by test numbers or a mask such as **** 1234.",
)
RULES = (SECRET, PERSONAL, CARD)

# What every secret below contains: a row without it needs no closer look.
MAYBE_SECRET = re.compile(
    r"PRIVATE KEY|PuTTY-User|A3T[A-Z0-9]|A[BCKS][ICA]A[0-9A-Z]{16}|aws|gh[pousr]_|github_pat_|gl[a-z]{2,6}-"
    r"|GR1348941|T3BlbkFJ|sk-(?:ant|proj)-|sk-[A-Za-z0-9]{20}"
    r"|[rs]k_live_|xox[a-z]-|hooks\.slack|SG\.|eyJ|pypi-Ag|_authToken"
    r"|AccountKey=|sq0csp-|-us\d|\d{8,10}:[\w-]{35}|[MNO][\w-]{23,25}\.[\w-]{6}\.|\b(?:AC|SK)[a-z0-9]{32}\b"
    r"|://[^/\s:]+:[^/\s@]+@|AIza|hf_[A-Za-z]"
)
# Plugins of detect-secrets for keys with a form of their own; those that guess by entropy or by the word
# "password" would report every second code example.
PLUGINS = (
    "AWSKeyDetector", "AzureStorageKeyDetector", "DiscordBotTokenDetector",
    "GitHubTokenDetector", "GitLabTokenDetector", "JwtTokenDetector", "MailchimpDetector", "NpmDetector",
    "OpenAIDetector", "PrivateKeyDetector", "PypiTokenDetector", "SendGridDetector", "SlackDetector",
    "SquareOAuthDetector", "StripeDetector", "TelegramBotTokenDetector", "TwilioKeyDetector",
)  # fmt: skip
# Keys that detect-secrets 1.5 does not know yet.
NEWER = {
    "Anthropic key": re.compile(r"\bsk-ant-[\w-]{20,}"),
    "OpenAI key": re.compile(r"\bsk-(?:proj-[\w-]{40,}|(?=[A-Za-z]*\d)[A-Za-z0-9]{20,}\b)"),
    "GitHub Token": re.compile(r"\bgithub_pat_\w{60,}"),
    "Google API key": re.compile(r"\bAIza[\w-]{35}\b"),
    "Hugging Face token": re.compile(r"\bhf_[A-Za-z0-9]{34}\b"),
}
KEY_BODY = re.compile(
    r"PRIVATE KEY(?: BLOCK)?-----(?:\\n|\s)*[\w+/:., -]*?(?:\\n|\s)*[A-Za-z0-9+/=]{24}|PuTTY-User"
)
URL_LOGIN = re.compile(r"://([^/\s:@]+):([^/\s@]+)@([^/\s:]+)")
STAND_IN = re.compile(
    r"pass|pwd|secret|user|admin|root|guest|token|key|change|your|xxx|foo|bar|test|demo|example|dummy|\*\*"
    r"|[<{$%\[]",
    re.IGNORECASE,
)
OWN_HOST = re.compile(
    r"localhost|127\.0\.0\.1|0\.0\.0\.0|example|^(?:db|host|server|proxy|redis|postgres|mysql|mongo)"
)
VARIED = 8  # different characters: a key has more of them than xxxxxxxx or 00000000

MAIL = re.compile(
    r"(?<![A-Za-z0-9_.+%/@-])([A-Za-z0-9_.+%-]{2,64})@((?:[a-z0-9-]{2,63}\.)+(?:com|net|org|edu|gov|info|biz|io|ai|me|"
    r"(?:co\.|com\.|ac\.)?(?:uk|de|fr|es|it|nl|be|at|ch|pl|se|no|dk|fi|pt|ie|cz|ru|ua|cn|jp|kr|in|br|mx|ar|ca"
    r"|au|nz|za|us|eu)))(?![\w.(@-]*[\w(@])",
    re.IGNORECASE,
)
# Addresses of a desk or a program, and stand-ins for anybody's.
NO_ONE = re.compile(
    r"(?:e?mail|git|hg|svn|npm|info|help(?:desk)?|support|contact|sales|service|customer|care|team|hello|hi|office"
    r"|no.?reply|do.?not.?reply|admin|webmaster|postmaster|root|billing|invoice|accounts?|payments?|orders?"
    r"|returns?|refunds?|shop|store|hr|jobs?|careers?|press|media|marketing|privacy|legal|security|abuse|feedback"
    r"|enquir\w*|inquir\w*|bookings?|reservations?|notifications?|alerts?|news\w*|(?:un)?subscribe|dpo|gdpr|it|dev"
    r"|ops|user|username|name|first\w*|last\w*|your?\w*|someone|somebody|anyone|me|my\w*|foo|bar|test\w*|demo"
    r"|sample|example|dummy|xyz|abc|xxx|recipient|sender|receiver|from|to|john|jane|john\.?doe|jane\.?doe"
    r"|john\.?smith|alice|bob|carol|charlie|dave|dan|eve|kontakt|hilfe|ventas|soporte|contacto|servicio|ayuda|kunden\w*)"
    r"(?:[-_.+\d]|$)|.*(?:service|support|care|desk)",
    re.IGNORECASE,
)
NO_WHERE = re.compile(
    r"(?:^|\.)(?:test|invalid|localhost|domain|company|acme|contoso|website|e?mail|abc|xyz|foo|bar|site|server"
    r"|host|business|store|shop|xxx+|sample|placeholder|somewhere|organization|school|university|provider)\."
    r"|your|mydomain|mycompany|mysite|example|fictional|dummy|fake",
    re.IGNORECASE,
)
CARD_LIKE = re.compile(
    r"(?<![\w.,/+=-])(?<![\d=+*/] )(?:[2-6]\d{3}([ -]?)\d{4}\1\d{4}\1\d{4}|3[47]\d{2}([ -]?)\d{6}\2\d{5})"
    r"(?![\w/=]|[-.,]\d| \d)"
)
# What else has sixteen digits, said before them.
NO_CARD = re.compile(
    r"(?:order|ticket|track|shipment|parcel|invoice|\bref|article|item|part|serial|\bsku|isbn|\bean|\bid|\buid"
    r"|uuid|\bno\b|product|model|batch|\blot|bestell|auftrag|rechnung|sendung|artikel|commande|pedido|订单)"
    r"\w*\W*(?:(?:number|nummer|code|id|no|nr|is|was|#)\W*){0,3}$",
    re.IGNORECASE,
)
CARDS = 0.5  # share of card-like numbers with a right check digit; among other numbers one in ten has it
IBAN = re.compile(r"(?<!\w)([A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?)(?!\w)")
IBAN_LENGTHS = {
    "NO": 15, "BE": 16, "DK": 18, "FI": 18, "NL": 18, "AT": 20, "EE": 20, "LT": 20, "LU": 20, "CH": 21,
    "LV": 21, "HR": 21, "BG": 22, "DE": 22, "GB": 22, "IE": 22, "AE": 23, "CZ": 24, "ES": 24, "SE": 24,
    "SK": 24, "RO": 24, "SA": 24, "PT": 25, "TR": 26, "FR": 27, "GR": 27, "IT": 27, "HU": 28, "PL": 28,
    "CY": 28, "BR": 29, "UA": 29,
}  # fmt: skip
SSN = re.compile(r"(?<![\w-])(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\w-])")
SSN_SAID = re.compile(r"\bSSN\b|social.security", re.IGNORECASE)
# A number with its country code, or an American one after a word that says what it is.
PHONE = re.compile(
    r"(?<![\w.+=*/^(-])\+(?!1[ -]?\(?(?:555|8[0-8]{2}))[1-9]\d{0,2}[ ./-]?(?:\(0?\d{1,4}\)[ ./-]?)?"
    r"\d(?:[ ./-]?\d){6,11}(?![\w/=])"
)
PHONE_SAID = re.compile(
    r"(?:call|phone|tel|cell|mobile|reach|whatsapp|text me|number)\b[^\d\n]{0,25}"
    r"(\(?(?!555|8(\d)\2)[2-9]\d{2}\)?[ .-]?(?!555)[2-9]\d{2}[ .-]\d{4})(?![\w-])",
    re.IGNORECASE,
)
# What every number below contains, and every key: most rows have neither.
LONG_NUMBER = re.compile(r"\d(?:[ ./()-]{0,2}\d){8}|[A-Z]{2}\d\d ?[A-Z0-9]{4}")
LONG_WORD = re.compile(r"[A-Za-z0-9_/+=.:-]{20}")


class Secrets(Check):
    """Keys with a form of their own, by detect-secrets, in rows that a quick look did not clear."""

    def see(self, record):
        text = record.whole
        if may_hold_a_key(text) and MAYBE_SECRET.search(text):
            for kind, secret in secrets_of(text):
                yield hit(SECRET, record, f"{kind}: {masked(secret)}")
                return


class People(Check):
    """Mail addresses, bank accounts, social security and telephone numbers."""

    def see(self, record):
        text = record.whole
        found = next(personal(text, record), None)
        if found:
            yield hit(PERSONAL, record, f"{found[0]}: {masked(found[1])}")


class Cards(Check):
    """Payment cards: told only where most numbers of that form have the right check digit."""

    def __init__(self, run):
        super().__init__(run)
        self.numbers, self.hits = 0, Kept()

    def see(self, record):
        text = record.whole
        if not LONG_NUMBER.search(text):
            return ()
        for match in CARD_LIKE.finditer(text):
            if NO_CARD.search(text[max(0, match.start() - 40) : match.start()]):
                continue
            self.numbers += 1
            digits = re.sub(r"\D", "", match[0])
            if luhn(digits) and len(set(digits)) > 1:
                self.hits.add(hit(CARD, record, f"card number: {masked(match[0])}"))
        return ()

    def end(self):
        return self.hits if self.hits.count >= CARDS * self.numbers else ()


CHECKS = (Secrets, People, Cards)


def may_hold_a_key(text: str) -> bool:
    """Whether a closer look is needed: keys are long words, and few texts have those."""
    if "PRIVATE KEY" in text or "://" in text:
        return True
    return max(map(len, text.split()), default=0) >= 20 and LONG_WORD.search(text) is not None


def secrets_of(text: str):
    """Kind and secret of each key in the text."""
    for kind, pattern in (*NEWER.items(), *known()):
        for match in pattern.finditer(text):
            if is_real(kind, match, text):
                yield kind, match[0]
    for login in URL_LOGIN.finditer(text):
        if not (STAND_IN.search(login[2]) or login[2] == login[1] or OWN_HOST.search(login[3])):
            yield "Password in an address", login[2]


@cache
def known() -> list[tuple[str, re.Pattern]]:
    """What detect-secrets knows keys by. Its own search would give a part of some keys only."""
    from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class

    plugins = get_mapping_from_secret_type_to_class().items()
    return [
        (kind, pattern)
        for kind, plugin in plugins
        if plugin.__name__ in PLUGINS
        for pattern in plugin.denylist
    ]


def is_real(kind: str, match: re.Match, text: str) -> bool:
    """Whether it is a key rather than what documentation puts in its place, or a part of something longer."""
    if kind == "Private Key":
        return KEY_BODY.search(text) is not None
    if kind == "JSON Web Token":
        from detect_secrets.plugins.jwt import JwtTokenDetector

        return JwtTokenDetector.is_formally_valid(match[0])
    around = text[max(0, match.start() - 1) : match.start()] + text[match.end() : match.end() + 1]
    return len(set(match[0])) > VARIED and not any(one.isalnum() for one in around)


def personal(text: str, record):
    """Kind and text of each piece of personal data."""
    if "@" in text:
        for match in MAIL.finditer(text):
            if not (NO_ONE.match(match[1]) or NO_WHERE.search(match[2])):
                yield "mail address", match[0]
    if not LONG_NUMBER.search(text):
        return
    yield from (("bank account", match[1]) for match in IBAN.finditer(text) if is_iban(match[1]))
    if SSN_SAID.search(text):
        yield from (("social security number", match[0]) for match in SSN.finditer(text))
    for said in by_people(record):
        yield from (("telephone number", match[0]) for match in PHONE.finditer(said))
        yield from (("telephone number", match[1]) for match in PHONE_SAID.finditer(said))


def by_people(record) -> list[str]:
    """What users say, whose numbers are their own; that in an answer is a desk's. [] in the text form."""
    return [content_of(message) for message in record.messages if message.get("role") == "user"]


def luhn(digits: str) -> bool:
    """Whether the last digit is the right check digit of a payment card."""
    doubled = [int(one) * (2 if place % 2 else 1) for place, one in enumerate(reversed(digits))]
    return sum(one - 9 if one > 9 else one for one in doubled) % 10 == 0


def is_iban(text: str) -> bool:
    """Whether length and check digits are those of an account of that country."""
    account = text.replace(" ", "")
    if IBAN_LENGTHS.get(account[:2]) != len(account):
        return False
    return int("".join(str(int(one, 36)) for one in account[4:] + account[:4])) % 97 == 1


def masked(secret: str) -> str:
    """Enough to find it by, not enough to use it."""
    secret = " ".join(secret.split())
    if "@" in secret:
        return f"{secret[0]}...{secret[secret.index('@') :]}"
    shown = max(1, min(4, len(secret) // 4))
    return f"{secret[:shown]}...{secret[-shown:]}"
