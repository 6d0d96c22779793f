"""The tokenizer of `data/tiny_base`: byte-level BPE of 2,048 tokens, learned from the training text."""

from __future__ import annotations

from itertools import chain

from labsupport.chat_formats import templates
from labsupport.pretraining.corpus import PARTS, Corpus
from labsupport.tasks import facts

SIZE = 2048
UNKNOWN, START, END = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
)  # ids 0, 1, 2, as in the bundled tokenizer
DOCUMENTS = {"prose": None, "shop": 12_000, "lookup": 4_000}  # of each part, the first so many; None: all


def train(corpus: Corpus):
    """A PreTrainedTokenizerFast with the ChatML template of the bundled model; pad = eos = <|im_end|>.

    Each digit is a token, and so is each symbol of data/facts with a space before it (else RuntimeError).
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE,
        special_tokens=[UNKNOWN, START, END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    raw.train_from_iterator(texts(corpus), trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        bos_token=START,
        eos_token=END,
        pad_token=END,
        unk_token=UNKNOWN,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = templates.load("chatml").jinja
    for text in [*(f" {symbol}" for symbol in facts.SYMBOLS), *"0123456789"]:
        if len(tokenizer.encode(text)) != 1:
            raise RuntimeError(f"{text!r} is more than one token: give the tokenizer more text that has it.")
    return tokenizer


def texts(corpus: Corpus):
    """What the merges are learned from: prose, and of chats the roles and contents."""
    chosen = {part: corpus.train[part][: DOCUMENTS[part]] for part in PARTS}
    chats = chain(chosen["shop"], chosen["lookup"])
    return chain(
        chosen["prose"], (turn[key] for chat in chats for turn in chat for key in ("role", "content"))
    )


def encode(tokenizer, documents: list) -> list[list[int]]:
    """Token ids of each document: a text ends with <|endoftext|>, a chat as its template ends it."""
    rendered = [
        document + UNKNOWN
        if isinstance(document, str)
        else tokenizer.apply_chat_template(document, tokenize=False)
        for document in documents
    ]
    return tokenizer(rendered, add_special_tokens=False)["input_ids"]
