"""What a fixture's fault hangs on besides its rows: a tokenizer, settings, a model that is named."""

import copy

from seen_rows import settings

from labsupport.chat_formats import templates

NO_END = "{% for m in messages %}{{ m.role + ': ' + m.content + '\\n' }}{% endfor %}"


def base_model(tokenizer):
    """A tokenizer without a template."""
    own = copy.deepcopy(tokenizer)
    own.chat_template = None
    return own


def adding_bos(tokenizer):
    """A tokenizer that begins each text with <|endoftext|>; its template does not."""
    from tokenizers.processors import TemplateProcessing

    own = copy.deepcopy(tokenizer)
    own.bos_token = "<|endoftext|>"
    own.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", own.bos_token_id)]
    )
    return own


def without_end(tokenizer):
    """A tokenizer whose template ends no turn."""
    own = copy.deepcopy(tokenizer)
    own.chat_template = NO_END
    return own


def qwen_base(tokenizer):
    """Qwen2.5's base model: the template of the chat model, another EOS."""
    own = templates.tokenizer_with(tokenizer, "qwen2.5")
    own.eos_token, own.name_or_path = "<|endoftext|>", ""
    return own


def of(name):
    return lambda tokenizer: templates.tokenizer_with(tokenizer, name)


def script():
    """Settings of a script of one's own."""
    recipe = settings(per_device_train_batch_size=1)
    recipe.of_trl = False
    return recipe


# What a fixture's fault hangs on besides the rows; the others are looked at with the course's model, unnamed.
CASES = {
    "no-chat-template": {"tokenizer": base_model},
    "template-refuses-row": {"tokenizer": of("gemma-2")},
    "system-dropped": {"tokenizer": of("mistral-v0.3")},
    "earlier-thinking-dropped": {"tokenizer": of("qwen3")},
    "tool-arguments-encoded-twice": {"tokenizer": of("qwen2.5")},
    "missing-bos": {"tokenizer": adding_bos},
    "double-bos": {"tokenizer": adding_bos},
    "end-not-trained": {"tokenizer": without_end},
    "end-of-turn-not-eos": {"tokenizer": qwen_base},
    "template-skipped": {"model": "a-chat-model"},
    "prompt-merges-with-completion": {"tokenizer": base_model},
    "few-packed-steps": {
        "recipe": settings(packing=True, max_length=512, per_device_train_batch_size=1, num_train_epochs=2)
    },
    "pad-is-eos": {"recipe": script()},
}
