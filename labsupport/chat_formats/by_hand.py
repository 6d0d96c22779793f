"""Two chat templates without Jinja: what they do, in ten lines of Python each."""

from __future__ import annotations

SMOLLM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"


def chatml(messages: list[dict], default_system: str = SMOLLM, add_generation_prompt: bool = False) -> str:
    """The conversation in ChatML, as SmolLM2's template writes it.

    default_system: the system prompt where the first message is none. Contents stand as they are, spaces too.
    """
    if messages[0]["role"] != "system":
        messages = [{"role": "system", "content": default_system}, *messages]
    text = ""
    for message in messages:
        text += f"<|im_start|>{message['role']}\n{message['content']}<|im_end|>\n"
    return text + ("<|im_start|>assistant\n" if add_generation_prompt else "")


def llama3(messages: list[dict], date: str = "26 Jul 2024", add_generation_prompt: bool = False) -> str:
    """The conversation as Llama 3.1's template writes it, without tools.

    date: today's, which the template writes into every system turn. Contents are stripped at both ends.
    """
    system = f"Cutting Knowledge Date: December 2023\nToday Date: {date}\n\n"
    if messages[0]["role"] == "system":
        system, messages = system + messages[0]["content"].strip(), messages[1:]
    turns = [("system", system), *((m["role"], m["content"].strip()) for m in messages)]
    text = "<|begin_of_text|>" + "".join(f"{_opened(role)}{content}<|eot_id|>" for role, content in turns)
    return text + (_opened("assistant") if add_generation_prompt else "")


def _opened(role: str) -> str:
    return f"<|start_header_id|>{role}<|end_header_id|>\n\n"
