"""Published chat templates as data: load one, render messages with it, as transformers would.

The texts lie in data/chat_templates, one Jinja file a template; templates.json says whose they are.
"""

from __future__ import annotations

import copy
import functools
import json
from dataclasses import dataclass

from labsupport.core.files import DATA, LabError, nearest_first, read_text

FOLDER = DATA / "chat_templates"


@dataclass(frozen=True)
class Template:
    """A chat template and what its tokenizer is told besides.

    jinja: the text. bos, eos, pad: special tokens, None where the model's tokenizer names none. header, end:
    what opens the assistant's turn, and what ends it. special: all tokens that are the format's own. system:
    what becomes of the system prompt, in a sentence. model: of the hub. source, licence: of the text.
    """

    name: str
    jinja: str
    model: str
    bos: str | None
    eos: str
    pad: str | None
    header: str
    end: str
    special: tuple[str, ...]
    system: str
    source: str
    licence: str


def names() -> list[str]:
    """The templates there are, such as "chatml"."""
    return list(_facts())


def load(name: str) -> Template:
    """The template of that name. LabError for an unknown one."""
    facts = _facts()
    if name not in facts:
        raise LabError(f"Unknown template {name!r}. There are: {nearest_first(str(name), names())}.")
    text = read_text(FOLDER / f"{name}.jinja")
    return Template(name, text, **{**facts[name], "special": tuple(facts[name]["special"])})


@functools.cache
def _facts() -> dict[str, dict]:
    return json.loads(read_text(FOLDER / "templates.json"))


def training_path() -> str:
    """The file for `SFTConfig(chat_template_path=)`: "chatml" with markers around what the assistant writes.

    It renders as "chatml" does. Between {% generation %} and {% endgeneration %} stand each answer and its
    <|im_end|>, so that `assistant_only_loss` trains on both.
    """
    return str(FOLDER / "chatml_training.jinja")


def render(template: Template | str, messages: list[dict], add_generation_prompt: bool = False, **kw) -> str:
    """The conversation as one text: what `apply_chat_template(messages, tokenize=False)` gives.

    template: a Template or its name. messages: role and content each. kw: what the template asks for besides,
    such as enable_thinking=False of "qwen3". LabError, in one line, for no messages, for a message without
    role or content, and for a conversation that the template refuses.
    """
    from jinja2.exceptions import TemplateError
    from transformers.utils.chat_template_utils import render_jinja_template

    template = load(template) if isinstance(template, str) else template
    check(messages)
    tokens = {"bos_token": template.bos, "eos_token": template.eos, "pad_token": template.pad}
    try:
        (text,), _ = render_jinja_template(
            [messages],
            chat_template=template.jinja,
            add_generation_prompt=add_generation_prompt,
            **{name: token for name, token in tokens.items() if token} | kw,
        )
    except TemplateError as error:
        said = str(error).strip().rstrip(".")
        raise LabError(f"{template.name} refuses this conversation: {said}. Change the messages.") from error
    return text


def check(messages: list[dict]) -> None:
    """LabError unless there is a message, and each is a dict whose role and content are texts."""
    if not isinstance(messages, list) or not messages:
        raise LabError('There are no messages: give a list such as [{"role": "user", "content": "Hello"}].')
    for number, message in enumerate(messages, start=1):
        fields = message if isinstance(message, dict) else {}
        if not all(isinstance(fields.get(key), str) for key in ("role", "content")):
            raise LabError(f"Message {number} has no role and content as text: it is {str(message)[:60]}.")


def tokenizer_with(tokenizer, template: Template | str):
    """A copy of the tokenizer with this template and its special tokens, which are added where it lacks them.

    Ids added so lie beyond the vocabulary that the course's model has rows for: for looking at, not for
    training.
    """
    template = load(template) if isinstance(template, str) else template
    own = copy.deepcopy(tokenizer)
    lacking = [token for token in template.special if token not in own.get_vocab()]
    own.add_tokens(lacking, special_tokens=True)
    own.chat_template = template.jinja
    own.bos_token, own.eos_token = template.bos, template.eos
    own.pad_token = template.pad or template.eos
    return own


def adding_bos(tokenizer):
    """A copy of the tokenizer that puts its BOS in front of every text, as Llama's does."""
    from tokenizers.processors import TemplateProcessing

    own = copy.deepcopy(tokenizer)
    own.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{own.bos_token} $A", special_tokens=[(own.bos_token, own.bos_token_id)]
    )
    return own
