"""What preflight believes the trainer makes of rows is what the real SFTTrainer makes of them."""

import copy

import pytest
from clean_rows import clean_rows
from seen_rows import records, settings
from tiny_training import tiny_model

from labsupport.chat_formats import templates
from labsupport.models import base_model
from labsupport.token_checks.trainer_view import NoSource, as_trained, decoded, views

IGNORED = -100
TURNS = [
    {"role": "system", "content": "Reply in one sentence."},
    {"role": "user", "content": "¿Qué hora es en Perú? 🙂"},
    {"role": "assistant", "content": "Son las tres."},
    {"role": "user", "content": "日本では何時ですか。"},
    {"role": "assistant", "content": "五時です。 " + "長い" * 40},
]
MESSAGES = [{"messages": TURNS}, {"messages": TURNS[1:3]}, {"messages": TURNS[:3]}]
STRINGS = [
    {"prompt": "Question: 7 * 8?\nAnswer:", "completion": " 56"},
    {"prompt": "Question: 7 * 8?\nAnswer: ", "completion": "56<|im_end|>"},  # tokens merge where they meet
    {"prompt": "", "completion": "Nothing was asked." * 9},
]
TEXTS = [
    {"text": "A document. " * 20},
    {"text": "It ends itself.<|im_end|>"},
    {"text": "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n"},
]
TOOLS = [
    {"messages": TURNS, "tools": [{"type": "function", "function": {"name": "clock", "parameters": {}}}]},
    {"messages": TURNS[:3], "tools": None},
]
FORMS = {"messages": MESSAGES, "pairs": clean_rows(4), "strings": STRINGS, "text": TEXTS, "tools": TOOLS}


@pytest.fixture(scope="module")
def bos_adding(tokenizer):
    """The course's tokenizer, made to begin each text with a BOS, as Llama's and Gemma's do."""
    from tokenizers.processors import TemplateProcessing

    own = copy.deepcopy(tokenizer)
    own.bos_token = "<|endoftext|>"
    own.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", own.bos_token_id)]
    )
    own.chat_template = "{{ bos_token }}" + own.chat_template
    return own


def trainer_rows(rows, tokenizer, tmp_path, **given):
    """Ids and labels out of the real trainer's data set."""
    from datasets import Dataset, disable_progress_bars
    from trl import SFTConfig, SFTTrainer

    disable_progress_bars()
    config = SFTConfig(
        output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to="none", disable_tqdm=True,
        activation_checkpointing=False, **given,
    )  # fmt: skip
    trainer = SFTTrainer(
        model=tiny_model(), args=config, train_dataset=Dataset.from_list(copy.deepcopy(rows)),
        processing_class=copy.deepcopy(tokenizer),
    )  # fmt: skip
    return [(row["input_ids"], row["labels"]) for row in trainer.train_dataset]


def believed(rows, tokenizer, **given):
    """The same from the views; rows without a trained token are dropped, as the trainer does."""
    recipe = settings(**given)
    seen = views(records(rows), as_trained(tokenizer, recipe), recipe)
    labels = [(v.ids, [i if t else IGNORED for i, t in zip(v.ids, v.trained, strict=True)]) for v in seen]
    return [(ids, label) for ids, label in labels if set(label) != {IGNORED}]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("bos", [False, True])
@pytest.mark.parametrize("given", [{}, {"max_length": 32}, {"max_length": 32, "truncation_mode": "keep_end"}])
@pytest.mark.filterwarnings("ignore:The `'keep_end'` truncation mode is deprecated:FutureWarning")
def test_the_views_are_what_the_trainer_feeds(form, bos, given, tokenizer, bos_adding, tmp_path):
    own = bos_adding if bos else tokenizer
    real = trainer_rows(FORMS[form], own, tmp_path, **given)
    assert believed(FORMS[form], own, **given) == real


@pytest.mark.parametrize(
    ("form", "given"),
    [
        ("messages", {"completion_only_loss": True}),  # does nothing
        ("pairs", {"completion_only_loss": False}),
        ("messages", {"assistant_only_loss": True, "chat_template_path": templates.training_path()}),
        ("pairs", {"assistant_only_loss": True, "chat_template_path": templates.training_path()}),
        ("strings", {"eos_token": "<|endoftext|>"}),
        ("text", {"eos_token": "<|endoftext|>"}),
    ],
)
def test_so_they_are_with_other_settings(form, given, tokenizer, tmp_path):
    assert believed(FORMS[form], tokenizer, **given) == trainer_rows(
        FORMS[form], tokenizer, tmp_path, **given
    )


@pytest.mark.parametrize("name", ["qwen2.5", "qwen3"])
def test_trl_swaps_a_template_with_markers_in(name, tokenizer, tmp_path):
    own = templates.tokenizer_with(tokenizer, name)
    own.eos_token = own.pad_token = "<|im_end|>"
    rows = MESSAGES[1:]
    assert believed(rows, own, assistant_only_loss=True) == trainer_rows(
        rows, own, tmp_path, assistant_only_loss=True
    )


def test_a_template_can_come_from_another_models_folder(tokenizer, tmp_path):
    own = templates.tokenizer_with(tokenizer, "qwen2.5")
    other = {"chat_template_path": str(base_model.bundled_folder())}
    assert believed(MESSAGES, own, **other) == trainer_rows(MESSAGES, own, tmp_path, **other)
    assert believed(MESSAGES, own, **other) != believed(MESSAGES, own)


def test_another_models_added_tokens_come_with_its_template(tokenizer, tmp_path):
    templates.tokenizer_with(tokenizer, "llama-3.1").save_pretrained(tmp_path / "llama")
    own = copy.deepcopy(tokenizer)
    own.chat_template = None
    other = {"chat_template_path": str(tmp_path / "llama")}
    assert believed(MESSAGES, own, **other) == trainer_rows(MESSAGES, own, tmp_path, **other)


def test_a_template_of_a_model_that_cannot_be_had_is_said(tokenizer):
    with pytest.raises(NoSource, match="chat_template_path 'nobody/no-such-model' cannot be read here"):
        as_trained(tokenizer, settings(chat_template_path="nobody/no-such-model"))


def test_a_template_without_markers_stops_the_run(tokenizer, tmp_path):
    with pytest.raises(ValueError, match="not training-compatible"):
        trainer_rows(MESSAGES, tokenizer, tmp_path, assistant_only_loss=True)
    assert views(records(MESSAGES), tokenizer, settings(assistant_only_loss=True)) == [None] * 3


def test_a_row_that_the_template_refuses_is_none_and_the_others_are_seen(tokenizer):
    gemma = templates.tokenizer_with(tokenizer, "gemma-2")
    first, second, third = views(records(MESSAGES), gemma)
    assert (first, third) == (None, None) and second.trained.count(True) == len(second.ids)


def test_half_a_surrogate_pair_is_none_and_the_others_are_seen(tokenizer):
    chats = [{"prompt": [{"role": "user", "content": "a\ud83d"}], "completion": TURNS[2:3]}, *clean_rows(1)]
    for rows in (chats, [{"text": "a\ud83d"}, {"text": "b"}]):
        broken, whole = views(records(rows), tokenizer)
        assert broken is None and whole.ids


def test_packing_cuts_rows_off_only_as_bfd(tokenizer):
    lengths = {
        strategy: len(
            views(records(TEXTS), tokenizer, settings(packing=True, packing_strategy=strategy, max_length=8))[
                0
            ].ids
        )
        for strategy in ("bfd", "bfd_split", "wrapped")
    }
    assert lengths["bfd"] == 8 and lengths["bfd_split"] == lengths["wrapped"] > 8


def test_the_decoded_tokens_make_up_the_text(tokenizer):
    text = "Grüße 日本では 🙂👍🏽 naïve\n\tdef f(x): return 'ё'"
    pieces = decoded(tokenizer, tokenizer(text)["input_ids"])
    assert "".join(pieces) == text and len(pieces) == len(tokenizer(text)["input_ids"])
