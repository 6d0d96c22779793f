"""What single answers say that nobody wants learnt: refusals, templates not filled in, half sentences."""

from __future__ import annotations

import re

from labsupport.findings.check import Check
from labsupport.findings.finding import Rule, hit
from labsupport.findings.kept import Kept
from labsupport.training_data.record import content_of

BOILERPLATE = Rule(
    "assistant-boilerplate",
    "warning",
    "Sentences in which another assistant speaks of itself teach yours to speak as that one.",
    "Rewrite these answers, or take the rows out.",
)
REFUSALS = Rule(
    "many-refusals",
    "warning",
    "A model learns to refuse faster than anything else, and then refuses what it should answer.",
    "Keep the refusals that are meant, and take out those of the model that wrote the data.",
)
PLACEHOLDER = Rule(
    "placeholder-left",
    "warning",
    "Templates that were not filled in teach the model to write braces and TODO where a value belongs.",
    "Fill them in, or take the rows out.",
)
CUT_OFF = Rule(
    "answer-cut-off",
    "warning",
    "Answers that stop in the middle of a sentence teach the model to stop there too.",
    "Write them again with a higher limit of tokens, or cut them at their last full sentence.",
)
ECHO = Rule(
    "prompt-echoed",
    "warning",
    "An answer that begins with its prompt teaches the model to repeat the question before it answers.",
    "Cut the prompt off the answers: texts made by generate() begin with it.",
)
RULES = (BOILERPLATE, REFUSALS, PLACEHOLDER, CUT_OFF, ECHO)

MODEL_TALK = re.compile(
    r"\bas an? (?:AI|artificial intelligence|(?:large )?language)(?:[ -](?:language|based|powered|text))* ?"
    r"model\b"
    r"|\bas a large language model|\bI(?:'m| am) (?:ChatGPT|GPT-\d)"
    r"|\bI(?:'m| am| was)\b[^.\n]{0,60}\b(?:trained|developed|created|made) by OpenAI\b"
    r"|\bmy (?:knowledge|training)(?: data)? cut-?off|\bmy last (?:knowledge )?update (?:in|was)"
    r"|\bals KI-(?:Sprachm|M)odell|\ben tant que mod[èe]le (?:de langage|d['’]IA)"
    r"|\bcomo (?:un )?modelo de lenguaje|\bcomo (?:um )?modelo de linguagem"
    r"|\bcome modello (?:linguistico|di linguaggio)|как языков(?:ая|ой) модель"
    r"|作为(?:一个|一款)?(?:AI|人工智能|大型?)?(?:语言模型|人工智能模型)|(?:AI|大規模)?言語モデルとして",
    re.IGNORECASE,
)
# A text without any of these words needs no closer look.
MAYBE_TALK = (
    "model",
    "Model",
    "MODEL",
    "OpenAI",
    "GPT",
    "cutoff",
    "cut-off",
    " update ",
    "модель",
    "模型",
    "モデル",
)
# Refusals of a request as such; "I cannot change your order without its number" is an answer.
REFUSAL = re.compile(
    r"\W*(?:(?:I(?:'m|’m| am) (?:very |really |so )?sorry|sorry|unfortunately|I apologi[sz]e),? ?(?:but )?)?"
    r"(?:I(?:['’]m| am)? ?(?:can['’]t|cannot|can not|not able to|unable to|won['’]t|will not) "
    r"(?:assist|help|comply|fulfil+|provide|do|answer|complete|continue|engage|participate|support|create"
    r"|generate)(?: you)?(?: with| in| to)? (?:that|this|your request|such|any (?:such|harm|illegal))"
    r"|es tut mir leid,? (?:aber )?(?:dabei |damit |das )?(?:ich kann|kann ich) (?:dir |ihnen )?"
    r"(?:dabei |damit )?nicht|je suis désolée?,? mais je ne peux pas"
    r"|lo siento,? (?:pero )?no puedo (?:ayudar|cumplir|hacer eso)"
    r"|(?:很?抱歉|对不起)，?(?:但)?我(?:无法|不能)(?:提供|协助|帮助|满足|完成|回答)"
    r"|申し訳ありませんが、?(?:その|この)(?:ご要望|リクエスト))",
    re.IGNORECASE,
)
MANY = 0.05  # share of the answers; policies of a company refuse now and then
AT_LEAST = 3  # refusals

CODE = re.compile(
    r"```|^\s*(?:def|class|import|from|function|public|private|const|let|var|return|if|for|while|SELECT|#include)"
    r"\b.*[({;:=]|[;{}]\s*$|=>|\bf[\"']|\.format\(|printf?\(|</|\$\(|\{%|\blambda\b.*:|\becho [\"$]|\"\$|#!/",
    re.MULTILINE,
)
TEMPLATE = re.compile(
    r"\bf-?string|template|placeholder|format string|variable|interpolat|jinja|handlebars|latex", re.I
)
BRACED = re.compile(
    r"(?<![\\\w^_}$#=:{\"'`|])\{\{? ?[A-Za-z][A-Za-z]+(?:[ _.-]?[A-Za-z0-9]+){0,4} ?\}\}?(?![\w}{^_\"'`|])"
    r"|\{\{ ?[A-Za-z][\w .-]{1,40}\}\}|(?<!\w)%\([a-z_]+\)s\b|(?<![\"'=/\w-])\$\{[a-z]\w*\}"
)
UNFILLED = re.compile(
    r"[\[<(]\s*(?:insert|enter|fill in|add|put|your text|placeholder)\b[^\]>)\n]{0,60}[\]>)]"
    r"|\[(?:your|my|customer|client|recipient|sender|company|product|user)(?:'s)?[ _](?:\w+[ _]?){1,3}\]"
    r"|<(?:YOUR|INSERT)_[A-Z_]+>|\[[A-Z]+(?:_[A-Z]+)+\]|(?<![/#] )\b(?:TODO|FIXME|TBD)\b|\blorem ipsum\b"
    r"|\bXXXX+\b",
    re.IGNORECASE,
)
SHOUTED = re.compile(r"TODO|FIXME|TBD|XXXX")  # in small letters these are words of other languages
TO_FILL_IN = re.compile(
    r"letter|mail|template|draft|compose|resum|\bcv\b|invit|memo\b|speech|script|contract|proposal|message|writ|note\b"
    r"|to-?do|lorem|placeholder|fixme|信|邮件|模板",
    re.IGNORECASE,
)
MAYBE_OPEN = re.compile(
    r"[{\[]|<[A-Za-z]|%\([a-z]|TODO|FIXME|TBD|XXXX|lorem|Lorem|LOREM|\((?:insert|enter|add|fill)"
)

SENTENCE_END = re.compile(
    r"[.!?…。！？؟।॥։።፧‽~♪)\]}>»”’\"'`*_|:：」』）】%$€£\d\u2600-\u2bff\U0001f000-\U0001faff][\s\u200d\ufe0f]*$"
)
OPEN_END = re.compile(
    r"\b(?:the|an?|and|or|of|to|for|with|that|which|is|are|because|but|by|at|from|und|oder|der|die|das|dem|den|ein"
    r"|eine|mit|von|für|et|ou|le|les|des|du|une|avec|pour|que|el|los|las|con|para|por)\s*$"
)  # in small letters: "option A" is an end
NO_STOPS = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]\\s*$"
)  # Thai, Lao, Burmese, Khmer end in nothing
LIST_ITEM = re.compile(r"\s*(?:[-*•·+|#>]|\d+[.)]|[A-Za-z][.)]|\w+:)\s")
SENTENCE = 60  # characters: a shorter last line is a title, a name or a verse
DENSE = 40  # characters of a Chinese or Japanese one
OPEN = 30  # characters of one that ends in "and the"
FULL = re.compile(r"[a-z\u00df-\u024f\u0400-\u04ff)\"'][.!?] +\S|[.!?]\n|[。！？।؟]")  # a sentence before it
BY_NAME = re.compile(  # who said it, after a quotation, or who signs
    r"[-–—] ?[A-Z][\w. ]{2,30}$"
    r"|\b(?:[Yy]ours|[Ss]incerely|[Rr]egards|[Ww]ishes|[Rr]espect|[Ll]ove|[Cc]heers)\b"
    r"[^.!?]{0,30}, (?:\[[^\]]{2,30}\]|[A-Z][\w.]*)[^.!?]{0,40}$"
)
ENDED = 0.7  # share of sentences with a stop: from here on one without it stands out
# Behind these nothing ends, not even in chats that leave out their stops. LLaMA-Factory's alpaca_en_demo,
# each answer cut at a random word: 98 of 328 noticed end so; with only the last stop taken off, 1 of 408.
BROKEN = re.compile(
    r"\b(?:the|an?|and|or|because|but|if|to|who|I|your|my|our|their|its|und|oder|der|ein|eine|et|ou|les?|une|los|las)\s*$"
)
BROKEN_SHARE = 0.1  # of the answers without a stop, from which on they are cut off, however many they are
ECHOED = 25  # characters of a prompt whose repetition is no accident


class Phrases(Check):
    """Boilerplate, refusals and templates that were not filled in."""

    def __init__(self, run):
        super().__init__(run)
        self.rows, self.refusals = 0, Kept()

    def see(self, record):
        said = record.text if record.text is not None else "\n".join(record.answers)
        self.rows += 1
        if any(word in said for word in MAYBE_TALK) and (match := MODEL_TALK.search(said)):
            yield hit(BOILERPLATE, record, around(said, match))
        if any(REFUSAL.match(answer) for answer in record.answers):
            self.refusals.add(hit(REFUSALS, record, record.answers[-1]))
        if MAYBE_OPEN.search(record.whole) and (place := left_open(record, said)):
            yield hit(PLACEHOLDER, record, place)

    def end(self):
        return self.refusals if self.refusals.count >= max(AT_LEAST, MANY * self.rows) else ()


class Endings(Check):
    """Answers that end in mid-sentence, among answers that do not."""

    def __init__(self, run):
        super().__init__(run)
        self.sentences, self.open, self.broken = 0, Kept(), 0

    def see(self, record):
        answer = record.answers[-1].rstrip() if record.answers else ""
        line = answer[answer.rfind("\n") + 1 :]
        if len(line) < OPEN:
            return ()
        if SENTENCE_END.search(line[-8:]) or NO_STOPS.search(line[-2:]):
            self.sentences += len(line) >= SENTENCE
        elif is_cut(answer, line):
            self.sentences += 1
            self.broken += bool(BROKEN.search(line[-20:]))
            self.open.add(hit(CUT_OFF, record, f"... {line[-90:]}"))
        return ()

    def end(self):
        few = self.open.count <= (1 - ENDED) * self.sentences
        return self.open if few or self.broken >= max(AT_LEAST, BROKEN_SHARE * self.open.count) else ()


class Echo(Check):
    """Answers that begin with the question."""

    def see(self, record):
        for before, message in zip(record.messages, record.messages[1:], strict=False):
            asked, answer = content_of(before).strip(), content_of(message).strip()
            if (
                message.get("role") == "assistant"
                and before.get("role") == "user"
                and len(asked) >= ECHOED
                and asked[-1] in ".?!:。？！؟："
                and len(answer) > len(asked)
                and answer.startswith(asked)
            ):
                yield hit(ECHO, record, answer)
                return


CHECKS = (Phrases, Endings, Echo)


def around(text: str, match: re.Match) -> str:
    """What stands around a match."""
    return text[max(0, match.start() - 30) : match.end() + 60]


def left_open(record, said: str) -> str | None:
    """What was not filled in, with its surroundings; None in code and where the task is about such places.

    A text that stands in prompt and answer alike is passed on, not forgotten.
    """
    whole = record.whole
    asked = record.prompt
    if BRACED.search(whole) and not (CODE.search(whole) or TEMPLATE.search(whole)):
        for text, other in ((said, asked), (asked, said)):
            for match in BRACED.finditer(text):
                if match[0] not in other:
                    return around(text, match)
    if UNFILLED.search(said) and not CODE.search(said):
        for match in UNFILLED.finditer(said):
            before = said[: match.start()] if record.text is not None else asked
            if TO_FILL_IN.search(before):
                return None
            shouted = match[0].upper() in ("TODO", "FIXME", "TBD") or match[0].upper().startswith("XXXX")
            if match[0] not in asked and (not shouted or SHOUTED.match(match[0])):
                return around(said, match)
    return None


def is_cut(answer: str, line: str) -> bool:
    """Whether an answer whose last line has no stop is prose that breaks off."""
    if answer[0] in "{[<|" or BY_NAME.search(line):
        return False
    if not OPEN_END.search(line[-20:]):
        if LIST_ITEM.match(line):
            return False
        dense = sum("\u3040" <= one <= "\u9fff" or "\uac00" <= one <= "\ud7a3" for one in line[-60:]) > 10
        if len(line) < (DENSE if dense else SENTENCE) or not (dense or line.count(" ") >= 8):
            return False
        last = line[line.rfind(" ") + 1 :]
        if last[0] in "#$@" or any(one in last[:-1] for one in "/\\@=_.") or not FULL.search(answer):
            return False
    return not CODE.search(answer)
