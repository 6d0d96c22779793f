"""A Llama-like model and its tokenizer as one GGUF file, which llama.cpp runs.

The names of tensors and fields are the `gguf` package's, which llama.cpp's authors keep. Two things that a
converter has to get right by itself: llama.cpp turns neighbouring numbers of a head together where
transformers turns number i and i + half (rotary embedding), so the rows of q and k change places; and its
name for how a text is split before BPE, which is no field of a tokenizer but has to be recognized.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from labsupport.core import files
from labsupport.core.files import LabError

KINDS = ("float32", "float16")
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
DIGITS = {"type": "Digits", "individual_digits": True}
# How a text is split before BPE -> llama.cpp's name of it (src/llama-vocab.cpp, llama_vocab::impl::load).
SPLITS = {
    "gpt-2": BYTE_LEVEL,
    "smollm": {"type": "Sequence", "pretokenizers": [DIGITS, BYTE_LEVEL]},
}


def write(model, tokenizer, path: Path | str, kind: str = "float16", split: str | None = None) -> Path:
    """Write a merged Llama-like model as a GGUF file and return its path.

    model: with the adapter merged in. kind: of the matrices, "float32" or "float16"; norms stay float32.
    split: llama.cpp's name for the split before BPE, by default recognized from the tokenizer. Nothing stays
    of a file that cannot be written to its end. LabError for another architecture, a model with an adapter
    still on it, a tokenizer that llama.cpp has no name for, and a number that float16 cannot hold.
    """
    from gguf import GGUFWriter

    path = Path(path)
    _check(model, kind)
    split = split or split_of(tokenizer)
    scratch = path.with_name(f".{path.name}.unfinished")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        writer = GGUFWriter(scratch, "llama")
        try:
            _add_settings(writer, model.config, path.stem, kind)
            _add_tokenizer(writer, tokenizer, model.config.vocab_size, split)
            for name, values in tensors(model, kind):
                writer.add_tensor(name, values)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
        finally:
            writer.close()
        scratch.replace(path)
    except OSError as error:
        raise files.cannot_write(path, error) from error
    finally:
        scratch.unlink(missing_ok=True)
    return path


def _check(model, kind: str) -> None:
    if kind not in KINDS:
        raise LabError(f"kind {kind!r}: there are {' and '.join(KINDS)}.")
    if hasattr(model, "peft_config"):
        raise LabError("The model has an adapter on it: give what its merge_and_unload() returns.")
    config = model.config
    if config.model_type != "llama":
        raise LabError(f"A model of type {config.model_type!r} is not written here, only Llama's.")
    if config.attention_bias or config.mlp_bias or config.rope_parameters["rope_type"] != "default":
        raise LabError("A Llama with biases or a stretched rotary embedding is not written here.")


def split_of(tokenizer) -> str:
    """llama.cpp's name for the way in which this BPE tokenizer splits a text first. LabError if it has none
    here: with a wrong name the tokens differ, and no error says so."""
    import json

    state = json.loads(tokenizer.backend_tokenizer.to_str())
    if state["model"]["type"] != "BPE" or state["normalizer"] is not None:
        raise LabError("Only a byte-level BPE tokenizer without a normalizer is written here.")
    for name, split in SPLITS.items():
        if state["pre_tokenizer"] == split:
            return name
    raise LabError(f"No name for this tokenizer's split before BPE is known here: {state['pre_tokenizer']}.")


def _add_settings(writer, config, name: str, kind: str) -> None:
    from gguf import LlamaFileType

    head = config.head_dim or config.hidden_size // config.num_attention_heads
    writer.add_name(name)
    writer.add_file_type(LlamaFileType.ALL_F32 if kind == "float32" else LlamaFileType.MOSTLY_F16)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_dimension_count(head)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)


def _add_tokenizer(writer, tokenizer, size: int, split: str) -> None:
    """Tokens, merges, special tokens and the chat template. size: rows of the embedding, which may be more
    than there are tokens."""
    import json

    from gguf import TokenType

    by_id = {number: token for token, number in tokenizer.get_vocab().items()}
    added = tokenizer.added_tokens_decoder
    tokens, types = [], []
    for number in range(size):
        tokens.append(by_id.get(number, f"[PAD{number}]"))
        if number not in by_id:
            types.append(TokenType.UNUSED)
        elif number in added:
            types.append(TokenType.CONTROL if added[number].special else TokenType.USER_DEFINED)
        else:
            types.append(TokenType.NORMAL)
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(split)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([" ".join(pair) for pair in merges])
    for number, add in (
        (tokenizer.bos_token_id, writer.add_bos_token_id),
        (tokenizer.eos_token_id, writer.add_eos_token_id),
        (tokenizer.unk_token_id, writer.add_unk_token_id),
        (tokenizer.pad_token_id, writer.add_pad_token_id),
    ):
        if number is not None:
            add(number)
    writer.add_add_bos_token(tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id])
    writer.add_add_space_prefix(False)
    if tokenizer.chat_template:
        writer.add_chat_template(tokenizer.chat_template)


def tensors(model, kind: str):
    """Yield GGUF's name and the numbers of every tensor, (out, in) as in transformers."""
    import gguf
    import torch

    config = model.config
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue  # llama.cpp takes the embedding where there is no output matrix
        values = tensor.detach().to("cpu", torch.float32).numpy()
        if name.endswith("q_proj.weight"):
            values = rotary_order(values, config.num_attention_heads)
        if name.endswith("k_proj.weight"):
            values = rotary_order(values, config.num_key_value_heads)
        if kind == "float16" and values.ndim > 1:
            values = _as_float16(values, name)
        yield names.get_name(name, try_suffixes=(".weight",)), values


def rotary_order(values: np.ndarray, heads: int) -> np.ndarray:
    """Rows of q or k, (heads * width, in): row i and i + width / 2 of each head next to each other.

    transformers turns those two as a pair, llama.cpp the rows 2 i and 2 i + 1.
    """
    half = values.shape[0] // heads // 2
    paired = values.reshape(heads, 2, half, -1).swapaxes(1, 2)
    return np.ascontiguousarray(paired.reshape(values.shape))


def _as_float16(values: np.ndarray, name: str) -> np.ndarray:
    largest = float(np.abs(values).max())
    if largest > float(np.finfo(np.float16).max):
        raise LabError(f"{name} holds {largest:.3g}, more than float16 can: write it as float32.")
    return values.astype(np.float16)
