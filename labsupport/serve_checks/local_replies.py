"""The adapter's replies in this process: transformers and PEFT, greedily. What the server is held to."""

from __future__ import annotations

from dataclasses import dataclass

from labsupport.core.files import LabError, first_line, short
from labsupport.findings.finding import shortened
from labsupport.serve_checks.adapter_folder import Adapter


@dataclass(frozen=True)
class Local:
    """A reply. prompt_ids, ids: of prompt and reply, without the end of the turn. text: the reply. logits: of
    each token of the reply and of the one after it, a float tensor (vocabulary,) each. base_text: what the
    model says without the adapter."""

    prompt_ids: list[int]
    ids: list[int]
    text: str
    logits: list
    base_text: str


class Model:
    """The base model with the adapter on it. LabError where they cannot be loaded together."""

    def __init__(self, adapter: Adapter):
        from peft import PeftModel

        from labsupport.serve_checks.tokenizer_checks import tokenizer_in

        model, tokenizer = base_of(adapter)
        self.tokenizer = tokenizer_in(adapter.folder, adapter.notes) or tokenizer
        try:
            self.model = PeftModel.from_pretrained(model, str(adapter.folder)).eval()
        except (RuntimeError, ValueError, TypeError, KeyError) as error:
            raise LabError(
                f"{short(adapter.folder)} cannot be loaded onto {short(adapter.base_folder)} "
                f"({first_line(error)[:200]}): is that the base it was trained on?"
            ) from error
        ends = self.model.generation_config.eos_token_id
        self.ends = {self.tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])} - {None}

    def prompt_ids(self, messages: list[dict]) -> list[int]:
        """Token ids of the messages by the chat template; without one, of the last message alone. LabError
        for messages that the template refuses."""
        from jinja2 import TemplateError

        last = messages[-1]["content"]
        if not self.tokenizer.chat_template:
            return self.tokenizer(last)["input_ids"]
        try:
            found = self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)
        except TemplateError as error:
            raise LabError(
                f"The chat template refuses the prompt {shortened(last, 60)!r} ({first_line(error)[:150]}): "
                "give other rows with --prompts."
            ) from error
        return found["input_ids"]

    def reply(self, messages: list[dict], tokens: int) -> Local:
        """The greedy reply to messages, of at most so many tokens."""
        prompt = self.prompt_ids(messages)
        ids, logits = self.greedy(prompt, tokens)
        with self.model.disable_adapter():
            base, _ = self.greedy(prompt, tokens)
        return Local(prompt, ids, self.decoded(ids), logits, self.decoded(base))

    def greedy(self, prompt: list[int], tokens: int) -> tuple[list[int], list]:
        """The likeliest tokens, without the end, and the logits at each step."""
        import torch

        ids = torch.tensor([prompt], device=self.model.device)
        with torch.no_grad():
            made = self.model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=tokens,
                do_sample=False,
                temperature=None,
                top_p=None,
                top_k=None,
                pad_token_id=min(self.ends, default=0),
                output_logits=True,
                return_dict_in_generate=True,
            )
        found = made.sequences[0, len(prompt) :].tolist()
        return self.without_end(found), [one[0].float().cpu() for one in made.logits]

    def without_end(self, ids: list[int]) -> list[int]:
        """The ids up to the end of the turn."""
        return ids[: next((place for place, one in enumerate(ids) if one in self.ends), len(ids))]

    def decoded(self, ids: list[int]) -> str:
        """The ids as text."""
        return self.tokenizer.decode(ids, skip_special_tokens=True)


def base_of(adapter: Adapter):
    """The base model and its tokenizer, never in 4 bits: a server holds its weights in 16."""
    import torch

    from labsupport.core import profiles
    from labsupport.models import base_model

    try:
        return base_model.load(str(adapter.base_folder), dtype=profiles.current().dtype)
    except torch.OutOfMemoryError as error:
        raise LabError(
            f"{short(adapter.base_folder)} does not fit the card beside what is there already: set "
            "LAB_PROFILE=cpu, which takes longer, or ask the server from another machine."
        ) from error
    except (ImportError, RuntimeError, ValueError, KeyError) as error:  # of a model of another kind
        raise LabError(
            f"{short(adapter.base_folder)} cannot be loaded here ({first_line(error)[:200]}), so there "
            "are no replies to compare with: leave --url out, or give --base another copy of the model."
        ) from error
