"""Notebook 10's exercises on learned vectors before a text: prompt tuning and prefix tuning."""

from __future__ import annotations

import torch

from labsupport.checking.exercise import Exercise, told
from labsupport.models import soft_prompts


def _mask(*rows: str) -> torch.Tensor:
    """ "1110": three tokens and one of padding."""
    return torch.tensor([[int(one) for one in row] for row in rows])


# ---------------------------------------------------------------- prompt tuning


def _prompt_cases() -> list[tuple]:
    generator = torch.Generator().manual_seed(0)
    masks = _mask("11111", "11100"), _mask("1111"), _mask("001", "111", "011")
    cases = []
    for tokens, hidden, mask in zip((3, 2, 4), (4, 6, 5), masks, strict=True):
        prompt = torch.randn(tokens, hidden, generator=generator).requires_grad_()
        embeddings = torch.randn(*mask.shape, hidden, generator=generator)
        labels = torch.randint(3, 90, mask.shape, generator=generator).masked_fill(mask == 0, -100)
        cases.append((prompt, embeddings, mask, labels))
    return cases


def _with(**changes):
    """The reference's result but for some parts, each change(prompt, embeddings, mask, labels)."""

    def answer(*given):
        return soft_prompts.with_prompt(*given) | {name: change(*given) for name, change in changes.items()}

    return answer


def _mask_after(prompt, embeddings, mask, labels):
    return torch.cat([mask, mask.new_ones(len(mask), len(prompt))], 1)


def _labels_after(prompt, embeddings, mask, labels):
    return torch.cat([labels, labels.new_full((len(mask), len(prompt)), -100)], 1)


def _vectors_after(prompt, embeddings, mask, labels):
    return torch.cat([embeddings, prompt.expand(len(mask), -1, -1)], 1)


def _vectors_in_place(prompt, embeddings, mask, labels):
    return torch.cat([prompt.expand(len(mask), -1, -1), embeddings[:, len(prompt) :]], 1)


def _mask_of_zeros(prompt, embeddings, mask, labels):
    return torch.cat([mask.new_zeros(len(mask), len(prompt)), mask], 1)


def _labelled(value):
    """Labels with this value for the prompt."""
    return lambda prompt, _, mask, labels: torch.cat(
        [labels.new_full((len(mask), len(prompt)), value), labels], 1
    )


def _old_mask(prompt, embeddings, mask, labels):
    return mask


def _old_labels(prompt, embeddings, mask, labels):
    return labels


with_prompt = Exercise(
    name="dora_and_friends.with_prompt",
    reference=soft_prompts.with_prompt,
    cases=_prompt_cases,
    mistakes=told(
        _with(inputs_embeds=_vectors_after, attention_mask=_mask_after, labels=_labels_after),
        "The prompt comes after the text: a causal model looks back only, so no word would see it. Put it "
        "before.",
        _with(attention_mask=_old_mask, labels=_old_labels),
        "The mask and the labels are as long as the text alone: both need an entry for each vector of the "
        "prompt as well.",
        _with(attention_mask=_old_mask),
        "The mask is as long as the text alone: put a 1 before it for each vector of the prompt.",
        _with(labels=_old_labels),
        "The labels are as long as the text alone: put a -100 before them for each vector of the prompt.",
        _with(attention_mask=_mask_of_zeros),
        "The mask has zeros for the prompt, as for padding, so nothing attends to it: put ones.",
        _with(attention_mask=_mask_after),
        "The mask's ones for the prompt are at its end, so every entry of a padded text is shifted: put them "
        "first.",
        _with(attention_mask=lambda prompt, _, mask, __: torch.ones_like(_mask_after(prompt, _, mask, __))),
        "The mask is all ones, so padding is attended to: keep what it says of the text.",
        _with(labels=_labelled(0)),
        "The prompt's labels are 0, which is a token like others, so the model would learn to say it: -100 "
        "stands for no label.",
        _with(labels=_labelled(-1)),
        "The prompt's labels are -1; what the loss leaves out is -100.",
        _with(labels=_labels_after),
        "The prompt's -100 are at the end of the labels, so every label stands beside another word: put them "
        "first.",
        _with(inputs_embeds=lambda prompt, embeddings, *_: torch.cat([prompt[None], embeddings], 1)),
        "prompt[None] is one row, and there are as many texts as the batch has: prompt.expand(batch, -1, -1) "
        "has it once for each.",
        _with(inputs_embeds=_vectors_in_place, attention_mask=_old_mask, labels=_old_labels),
        "The prompt stands in place of the text's first words: it comes before all of them.",
    ),
    hints=[
        "Three times torch.cat along dim=1, each time something for the prompt first, then what was given.",
        "The prompt has no batch yet: prompt.expand(batch, -1, -1). It is attended to, so its mask is 1, and "
        "it is not predicted, so its label is -100.",
        "torch.cat([mask.new_ones(batch, tokens), mask], dim=1), and "
        "torch.cat([labels.new_full((batch, tokens), -100), labels], dim=1).",
    ],
    minutes=10,
    difficulty=2,
    returns="tensor",
)

# ---------------------------------------------------------------- prefix tuning


def use_prefix(fn, prefix, mask) -> dict:
    """What fn(prefix, mask) returns, with the cache opened: the keys and the values of each layer."""
    result = fn(prefix, mask)
    cache = result["past_key_values"]
    layers = getattr(cache, "layers", None)
    pairs = list(cache) if layers is None else [(layer.keys, layer.values) for layer in layers]
    return {
        "past_key_values": type(cache).__name__,
        "keys": [keys for keys, _ in pairs],
        "values": [values for _, values in pairs],
        "attention_mask": result["attention_mask"],
    }


def _prefix_cases() -> list[tuple]:
    import transformers.cache_utils  # noqa: F401 - so that the first answer that is timed does not

    generator = torch.Generator().manual_seed(0)
    sizes = ((2, 2, 2, 3, 4), (3, 2, 1, 2, 5), (1, 2, 3, 2, 2))
    masks = _mask("11111", "11100"), _mask("001", "111", "011", "011"), _mask("1111", "1110", "1100")
    prefixes = [torch.randn(*size, generator=generator).requires_grad_() for size in sizes]
    return list(zip(prefixes, masks, strict=True))


def _cached(pairs):
    from transformers import DynamicCache

    return DynamicCache([(keys, values) for keys, values in pairs])


def _other_cache(change):
    """The reference, but for a cache of change(keys, values, batch) of each layer."""

    def answer(prefix, mask):
        result = soft_prompts.with_prefix(prefix, mask)
        return result | {"past_key_values": _cached(change(*layer, len(mask)) for layer in prefix)}

    return answer


def _other_mask(change):
    """The reference, but for the mask, change(tokens, mask)."""

    def answer(prefix, mask):
        return soft_prompts.with_prefix(prefix, mask) | {"attention_mask": change(prefix.shape[3], mask)}

    return answer


def _one_layer_for_all(prefix, mask):
    return soft_prompts.with_prefix(prefix[:1].expand(len(prefix), -1, -1, -1, -1), mask)


def _expanded(part, batch):
    return part.expand(batch, *part.shape)


def _as_list(prefix, mask):
    pairs = [tuple(_expanded(part, len(mask)) for part in layer) for layer in prefix]
    return soft_prompts.with_prefix(prefix, mask) | {"past_key_values": pairs}


with_prefix = Exercise(
    name="dora_and_friends.with_prefix",
    reference=soft_prompts.with_prefix,
    used=use_prefix,
    cases=_prefix_cases,
    mistakes=told(
        _other_cache(lambda keys, values, batch: (_expanded(values, batch), _expanded(keys, batch))),
        "Keys and values are exchanged: prefix[i, 0] are the keys of layer i, prefix[i, 1] its values.",
        _other_cache(lambda keys, values, batch: (keys[None], values[None])),
        "The cache is for one text: give each text of the batch the prefix, with expand.",
        _other_cache(lambda keys, values, batch: (keys.repeat(batch, 1, 1), values.repeat(batch, 1, 1))),
        "repeat(batch, 1, 1) makes more heads: the batch is a new first axis, expand(batch, -1, -1, -1).",
        _other_cache(
            lambda keys, values, batch: tuple(
                _expanded(part.transpose(0, 1), batch) for part in (keys, values)
            )
        ),
        "Heads and tokens are exchanged: a cache has (batch, heads, tokens, head_dim), and prefix has them "
        "in that order.",
        _one_layer_for_all,
        "Every layer has the first layer's prefix: each has its own.",
        _as_list,
        "past_key_values is a list of pairs: models of transformers take a DynamicCache, which is made of "
        "such a list.",
        _other_mask(lambda tokens, mask: mask),
        "The mask is as long as the text alone: the prefix is attended to, so put a 1 before it for each of "
        "its tokens.",
        _other_mask(lambda tokens, mask: torch.cat([mask, mask.new_ones(len(mask), tokens)], 1)),
        "The mask's ones for the prefix are at its end, so every entry of a padded text is shifted: put them "
        "first.",
        _other_mask(lambda tokens, mask: torch.cat([mask.new_zeros(len(mask), tokens), mask], 1)),
        "The mask has zeros for the prefix, as for padding, so nothing attends to it: put ones.",
        _other_mask(lambda tokens, mask: mask.new_ones(len(mask), tokens + mask.shape[1])),
        "The mask is all ones, so padding is attended to: keep what it says of the text.",
    ),
    hints=[
        "A DynamicCache is made of a list of pairs, one a layer: keys and values, each (batch, heads, "
        "tokens, head_dim).",
        "prefix[i, 0] has no batch yet: .expand(batch, -1, -1, -1). The mask is made longer as for a prompt.",
        "DynamicCache([(k.expand(batch, -1, -1, -1), v.expand(batch, -1, -1, -1)) for k, v in prefix])",
    ],
    minutes=12,
    difficulty=2,
    returns="tensor",
)
