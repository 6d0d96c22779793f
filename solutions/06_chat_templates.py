# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 06 · Chat templates: what the model is really trained on
#
# **In one sentence**: you follow a conversation from messages to token ids to labels, break it in the ways
# people break it, and measure what each break costs.
#
# **Minutes**: 110 to read and do, 1 to run all cells.
#
# ![A short conversation in four rows. Messages, user: Hi, assistant: Hello. Below them the text that the
# template makes of them, token by token; then the ids; then the labels: -100 everywhere but for Hello and
# the <|im_end|> behind it.](attachment:schematic.png)
#
# A conversation on its way into the model. The template makes one text of it, the tokenizer ids, and the
# labels say what is learned: the answer, and that it ends.
#
# After this notebook you will be able to
#
# - write a chat template by hand, and show token by token what a trainer makes of a row;
# - build the [labels](../glossary.md#label) of a many-turn conversation, equal to what TRL's trainer feeds
#   the model;
# - recognise a doubled [BOS](../glossary.md#bos), an end that is never learned, a loss on the prompt, rows
#   that leak into each other, and copies on both sides of a split, and say which of them matter;
# - repair training code that was written for older libraries, and let `lab.py preflight` look for all this
#   in your own data before you pay for a run.
#
# **Needs** [notebook 01](01_first_fine_tune.ipynb): a fine-tune and its labels. No GPU.

# %% [markdown]
# ## Why this decides so much
#
# A language model continues a row of tokens. It knows nothing of messages, users or assistants. A *chat
# model* is one that was trained on conversations written out in one particular way, with particular marks
# between the turns. Write them out in another way, and it still continues the row: fluently, and as
# somebody who never learned this task.
#
# No error is raised, the loss goes down all the same, and the replies are merely worse. A practitioner's
# guide (000) reports a "50 % performance difference between two identical LoRA runs" that had different
# prompt templates. You cannot see such a fault in the loss. You can see it in the tokens, if you look.
#
# The next cells set up; loading torch and its relatives takes about 10 seconds.

# %% tags=["core", "setup"]
# Does nothing after `lab.py start`. In a bare kernel, such as Colab's, it installs the course's packages.
import importlib.util, pathlib, runpy, sys

if importlib.util.find_spec("labsupport") is None:
    here = pathlib.Path.cwd()
    folders = [here, *here.parents, *here.glob("*/")]
    found = [f for p in folders if (f := p / "labsupport" / "bare_kernel.py").exists()]
    if not found:
        sys.exit(f"No folder labsupport/ in, above or below {here}: clone the course's repository there.")
    runpy.run_path(str(found[0]), run_name="__main__")

# %% tags=["core", "setup"]
from labsupport.core import upstream

upstream.quiet_known_noise()  # messages about this stack that you can do nothing about
upstream.guard_4bit_on_cpu()  # a fault of bitsandbytes on some processors: guard before building a model

# %% tags=["core", "setup"]
import hashlib
import json
import random
import re

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, DataCollatorForLanguageModeling
from trl import SFTConfig, SFTTrainer

from labsupport.chat_formats import by_hand, templates, token_view
from labsupport.core import files, plots
from labsupport.core.files import LabError
from labsupport.core.tables import Table
from labsupport.evaluation import experiments
from labsupport.explorers import chat_template_explorer
from labsupport.format_runs import figures
from labsupport.models import base_model
from labsupport.notebooks.nb06_chat_templates import exercises
from labsupport.preflight import report, session
from labsupport.tasks import tickets
from labsupport.teaching import predictions, quiz

# %% tags=["core", "setup"]
torch.set_num_threads(2)
model, tokenizer = base_model.load(base_model.BUNDLED, dtype="float32")  # small: to look at, not to tune
rows = tickets.load("train")[:8]
print(type(tokenizer).__name__, "with", f"{len(tokenizer):,}", "tokens")

# %% [markdown]
# ## One conversation, written out
#
# This is what you have, in the form that every library takes: a list of messages, each with a *role* and
# its *content*.

# %% tags=["core"]
conversation = [
    {"role": "system", "content": "You answer in one word."},
    {"role": "user", "content": "Capital of France?"},
    {"role": "assistant", "content": "Paris."},
    {"role": "user", "content": "And of Italy?"},
    {"role": "assistant", "content": "Rome."},
]
text = tokenizer.apply_chat_template(conversation, tokenize=False)
print(text)

# %% [markdown]
# And this is what the model gets. The format is called *ChatML*: each turn is `<|im_start|>`, the role, a
# line break, the content, `<|im_end|>`, a line break. The two marks are *special tokens*: one id each,
# which no ordinary text is tokenised into, so that the model can tell a mark from somebody talking about
# marks.
#
# Which format it is stands in the model's own folder, as a small program in a language named Jinja, the
# [*chat template*](../glossary.md#chat-template). `apply_chat_template` runs it.

# %% tags=["core"]
ids = tokenizer(text, add_special_tokens=False)["input_ids"]
token_view.show(tokenizer, ids, caption="The conversation as the model sees it")

# %% [markdown]
# At inference you stop where the assistant is to speak, and open its turn: the *generation prompt*. Leave
# that out, and the model first has to guess that it is the assistant's turn; often it does not.

# %% tags=["core"]
asked = tokenizer.apply_chat_template(conversation[:2], tokenize=False, add_generation_prompt=True)
print(repr(asked[-45:]))
assert text.startswith(asked)

# %% [markdown]
# The assertion is the property that everything below leans on: what you ask with is, to the letter, the
# beginning of what you trained on.
#
# ### Exercise 1: ChatML
#
# > **10 minutes · ●○○**
# >
# > Return the conversation written out in ChatML, a str. `messages` is a list of dicts with `role` and
# > `content`. `add_generation_prompt` says whether to open the assistant's turn at the end. Contents are
# > taken as they are, blanks and all. If the first message is not a system message, this model's template
# > puts one in front, with the content `default_system`.
# >
# > `[{"role": "user", "content": "Hi"}]` with the default "Be kind" and an opened turn:
# > `<|im_start|>system⏎Be kind<|im_end|>⏎<|im_start|>user⏎Hi<|im_end|>⏎<|im_start|>assistant⏎`, where ⏎ is
# > a line break.


# %% tags=["core"]
def render_chatml(messages: list[dict], default_system: str, add_generation_prompt: bool) -> str:
    ### BEGIN SOLUTION
    if messages[0]["role"] != "system":
        messages = [{"role": "system", "content": default_system}, *messages]
    text = ""
    for message in messages:
        text += f"<|im_start|>{message['role']}\n{message['content']}<|im_end|>\n"
    if add_generation_prompt:
        text += "<|im_start|>assistant\n"
    return text
    ### END SOLUTION


exercises.render_chatml.check(render_chatml)

# %% tags=["core"]
# exercises.render_chatml.hint()
chatml = exercises.render_chatml.or_reference(render_chatml)

# %% [markdown]
# Equal on the cases of the check. On a thousand conversations that nobody picked?

# %% tags=["core"]
lots = random.Random(0)
pieces = ["Hello", " ", "\n", "é", "印", "{x}", "<|im_end|>", "system", "1 + 1 = 2", "  two blanks  "]


def random_conversation() -> list[dict]:
    """One to six turns of odd contents, with a system message or without."""
    roles = ["system"] * lots.randint(0, 1) + ["user", "assistant"] * lots.randint(1, 3)
    return [{"role": role, "content": "".join(lots.choices(pieces, k=3))} for role in roles]


same = 0
for _ in range(1000):
    messages, opened = random_conversation(), lots.random() < 0.5
    same += chatml(messages, by_hand.SMOLLM, opened) == tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=opened
    )
print(same, "of 1,000 conversations come out the same, letter by letter")
assert same == 1000

# %% [markdown]
# A thing to notice in the list of pieces: a *user* may write `<|im_end|>`. The tokenizer then makes the
# real mark of it, and the user has ended their own turn and may go on as the system. Nothing in the
# template prevents that. Data with such texts in it is worth finding (`preflight`, below, does), and input
# from strangers is worth cleaning.

# %% [markdown]
# ## Other models, other marks
#
# ### Exercise 2: Llama 3.1
#
# > **15 minutes · ●●○**
# >
# > The same for Llama 3.1. The text begins with `<|begin_of_text|>`, once. A turn is `<|start_header_id|>`,
# > the role, `<|end_header_id|>`, two line breaks, the content without the blanks and line breaks at its
# > two ends, `<|eot_id|>`; nothing stands between turns.
# >
# > There is always a system turn. Its content is `Cutting Knowledge Date: December 2023`, a line break,
# > `Today Date: ` and the `date`, two line breaks, and then the content of the system message, if the first
# > message is one.


# %% tags=["core"]
def render_llama3(messages: list[dict], date: str, add_generation_prompt: bool) -> str:
    ### BEGIN SOLUTION
    system = f"Cutting Knowledge Date: December 2023\nToday Date: {date}\n\n"
    if messages[0]["role"] == "system":
        system, messages = system + messages[0]["content"].strip(), messages[1:]
    text = "<|begin_of_text|>"
    for role, content in [("system", system)] + [(m["role"], m["content"].strip()) for m in messages]:
        text += f"<|start_header_id|>{role}<|end_header_id|>\n\n{content}<|eot_id|>"
    if add_generation_prompt:
        text += "<|start_header_id|>assistant<|end_header_id|>\n\n"
    return text
    ### END SOLUTION


exercises.render_llama3.check(render_llama3)

# %% tags=["core"]
# exercises.render_llama3.hint()
llama3 = exercises.render_llama3.or_reference(render_llama3)
written = llama3(conversation[:2], "26 Jul 2024", True)
print(written)
assert written == templates.render("llama-3.1", conversation[:2], add_generation_prompt=True)

# %% [markdown]
# A date in the system prompt! It is the template's default; a server that fills in the real one gives the
# model another prompt every day. Harmless, probably. But you would not have guessed it, and no replica by
# hand that you find on the web has it.
#
# Six published templates, kept in [data/chat_templates](../data/chat_templates/README.md) with their
# sources, on the same question:

# %% tags=["core"]
question = conversation[:2]
lines = []
for name in templates.names():
    try:
        written = repr(templates.render(name, question, add_generation_prompt=True))
    except LabError as error:
        written = str(error)
    lines.append([name, written])
Table(["model family", "a system and a user message, and the answer is opened"], lines)

# %% [markdown]
# No two agree. Look at what becomes of the *system* message: four write it as a turn of its own, Mistral's
# puts it into the user's, and Gemma-2's refuses. (Mistral's we wrote after its published examples; the
# others are copies.) A guide (002) prints what Mistral's template makes of a system message as `[INST]
# system [/INST]` followed by a second `[INST] user [/INST]`.

# %% tags=["core", "claim-K3"]
printed_by_guide = "<s>[INST] You answer in one word. [/INST]\n[INST] Capital of France? [/INST]"
rendered = templates.render("mistral-v0.3", question)
print(repr(rendered))
assert rendered != printed_by_guide and rendered.count("[INST]") == 1

# %% [markdown]
# > **Guide 002 says**: the text is `[INST] system [/INST]` and then `[INST] user [/INST]`. *Wrong* for this
# > template, which writes one `[INST]` for both. Whoever renders by hand in training and lets a server
# > render at inference (which is what servers do) now has two different formats.
#
# So never write the marks yourself. Take the tokenizer's own template, in training and at inference.

# %% [markdown]
# ## What is trained on
#
# A trainer makes two rows of numbers of each conversation: the ids, and the labels, the token that the loss
# compares with at each place. Where the label is -100 the loss looks away. The labels decide what is
# learned:
#
# - only the last answer: the model learns to answer, and the conversation before it is given;
# - every answer of the assistant: the same, several lessons from one row;
# - everything: it also learns to write system prompts and to ask the users' questions.
#
# In TRL the *form of your rows* decides. Here are the same rows in two forms:

# %% tags=["core"]
options = {"output_dir": str(files.RUNS / "trainer"), "report_to": "none", "disable_tqdm": True}
options["activation_checkpointing"] = False  # nothing is trained here
if not torch.cuda.is_available():
    options |= {"use_cpu": True, "bf16": False}


def as_fed(data: list[dict], **settings) -> list[dict]:
    """The rows as TRL's trainer feeds them to the model: input_ids and labels of each, before padding."""
    arguments = SFTConfig(**options, **settings)
    trainer = SFTTrainer(model, arguments, train_dataset=Dataset.from_list(data), processing_class=tokenizer)
    return list(trainer.train_dataset)


def share_trained(fed: list[dict]) -> str:
    """Which part of all tokens the loss sees."""
    labels = [label for row in fed for label in row["labels"]]
    return f"{100 * sum(label != -100 for label in labels) / len(labels):.0f} %"


# %% tags=["core"]
in_two_parts = tickets.as_prompt_completion(rows)  # {"prompt": [...], "completion": [...]}
in_one = [{"messages": row["prompt"] + row["completion"]} for row in in_two_parts]
of_two, of_one = as_fed(in_two_parts), as_fed(in_one)
assert [row["input_ids"] for row in of_two] == [row["input_ids"] for row in of_one]
print("the ids are the same; trained on:", share_trained(of_two), "and", share_trained(of_one))

# %% tags=["core"]
token_view.show(tokenizer, of_two[0]["input_ids"], of_two[0]["labels"], "prompt + completion")

# %% [markdown]
# In the form *prompt + completion* the loss sees the answer, its end mark and the line break after it. In
# the form *messages* it sees all. Surely a switch named `completion_only_loss` mends that?

# %% tags=["core"]
print("completion_only_loss=True on messages:", share_trained(as_fed(in_one, completion_only_loss=True)))

# %% [markdown]
# It does nothing, and says nothing: there is no completion in rows of messages. The switch for those is
# `assistant_only_loss`:

# %% tags=["core"]
try:
    as_fed(in_one, assistant_only_loss=True)
except ValueError as error:
    print("ValueError:", str(error).split(".")[0])

# %% [markdown]
# TRL must learn from the *template* where the assistant speaks: Jinja's `{% generation %}` and `{%
# endgeneration %}` stand around it. For some published templates TRL knows a version with these marks and
# takes it by itself; ChatML's, as this model has it, is not among them. So give it one. Ours differs from
# the model's in these marks alone, and they end *behind* `<|im_end|>`: the end of a turn must be learned
# too.

# %% tags=["core"]
marks = {"assistant_only_loss": True, "chat_template_path": templates.training_path()}
(marked,) = as_fed([{"messages": conversation}], **marks)
many_turns, their_labels = marked["input_ids"], marked["labels"]
assert tokenizer.decode(many_turns) == text
token_view.show(tokenizer, many_turns, their_labels, "assistant_only_loss, with a template that has marks")

# %% [markdown]
# > **Predict.** A conversation has five questions and five answers, each answer a single token. As a prompt
# > and its completion, only the last answer is trained on. With `assistant_only_loss`, how many times as
# > many tokens?

# %% tags=["core"]
guess = None  # your guess, times as many

# %% tags=["core"]
ten_turns = [{"role": "system", "content": "Answer in one word."}]
for _ in range(5):
    ten_turns += [{"role": "user", "content": "Is it raining?"}, {"role": "assistant", "content": "Yes"}]
(last_only,) = as_fed([{"prompt": ten_turns[:-1], "completion": ten_turns[-1:]}])
(all_answers,) = as_fed([{"messages": ten_turns}], **marks)
counts = [sum(label != -100 for label in row["labels"]) for row in (last_only, all_answers)]
print(counts[0], "and", counts[1], "tokens are trained on")
predictions.compare(guess, counts[1] / counts[0])

# %% [markdown]
# Ten tokens against three, not five times as many. Each answer brings two tokens, itself and its
# `<|im_end|>`. But a *completion* is all that the template adds for it, the line break behind `<|im_end|>`
# included. The model never has to write that line break, since generation stops before; it is easy to
# predict and teaches nothing. Only remember it when you compare the losses of two runs: they may be means
# over different tokens.
#
# ### Exercise 3: the labels of many turns
#
# > **20 minutes · ●●○**
# >
# > Now write it yourself, from the ids alone. `ids` is a list of ints, a conversation in ChatML. `header`
# > is the list of ids that opens an answer (of `<|im_start|>assistant` and the line break), and `end` the
# > id of `<|im_end|>`. Return the labels, a list of as many ints: the id itself for every token of every
# > answer and for the `end` that closes it, -100 for all others. The header is not learned: it is what you
# > ask with.
# >
# > With header [1, 7, 9] and end 2, the ids `[1, 5, 9, 4, 2, 9, 1, 7, 9, 6, 8, 2, 9]` have the labels
# > `[-100, -100, -100, -100, -100, -100, -100, -100, -100, 6, 8, 2, -100]`.
# >
# > An answer that was cut off, without its `end`, is learned up to where it stops.


# %% tags=["core"]
def loss_mask(ids: list[int], header: list[int], end: int) -> list[int]:
    ### BEGIN SOLUTION
    labels, inside = [], False
    for place, token in enumerate(ids):
        if inside:
            labels.append(token)
            inside = token != end
        else:
            labels.append(-100)
            inside = ids[max(0, place + 1 - len(header)) : place + 1] == header
    return labels
    ### END SOLUTION


exercises.loss_mask.check(loss_mask)

# %% tags=["core"]
# exercises.loss_mask.hint()
mask_of = exercises.loss_mask.or_reference(loss_mask)
header = tokenizer("<|im_start|>assistant\n", add_special_tokens=False)["input_ids"]
assert mask_of(many_turns, header, tokenizer.eos_token_id) == their_labels
assert mask_of(all_answers["input_ids"], header, tokenizer.eos_token_id) == all_answers["labels"]
print("your labels are those that TRL's trainer feeds the model")

# %% [markdown]
# ## Six ways to spoil a row
#
# Each of the following is found in published training code. None raises an error.
#
# ### Rendered too early
#
# The classic: render the conversation to a string first, and train on a column `text`. Guides 001, 002 and
# 004 do it. Where the tokenizer puts its own BOS, the *beginning of sequence*, in front of every text
# (Llama's, Mistral's and Gemma's do), there are now two of them. SmolLM2's does not; a copy of it that does
# shows the case.

# %% tags=["core", "claim-K6"]
from tokenizers.processors import TemplateProcessing

adds_bos = type(tokenizer).from_pretrained(tokenizer.name_or_path)
adds_bos.backend_tokenizer.post_processor = TemplateProcessing(
    single=f"{tokenizer.bos_token} $A", special_tokens=[(tokenizer.bos_token, tokenizer.bos_token_id)]
)


def fed_as_text(text: str, tokenizer) -> dict:
    """What TRL's trainer makes of one row that is a bare string: input_ids and labels."""
    data = Dataset.from_list([{"text": text}])
    return SFTTrainer(
        model, SFTConfig(**options), train_dataset=data, processing_class=tokenizer
    ).train_dataset[0]


rendered = tokenizer.apply_chat_template(in_one[0]["messages"], tokenize=False)
too_early = fed_as_text(rendered, adds_bos)
ids, learned = too_early["input_ids"], sum(label != -100 for label in too_early["labels"])
print("begins with", repr(tokenizer.decode(ids[:3])), "and ends with", repr(tokenizer.decode(ids[-3:])))
print(f"trained on: {learned} of {len(ids)} tokens")
assert learned == len(ids) and ids[:2] == [tokenizer.bos_token_id] * 2

# %% [markdown]
# Three faults in one line: BOS twice; the end mark twice, because TRL adds one to texts, and this text has
# a line break behind its own; and a loss on everything, the prompt included, that no switch can take away
# any more, since a string does not say who speaks.
#
# > **Guides 001, 002 and 004** render first. *Outdated*: in the trainers of their day there was hardly
# > another way. Today give the trainer `messages`, or `prompt` and `completion`, and let it render.
#
# ### The end that is never learned
#
# Many models have no token for padding, so recipes set `pad_token = eos_token`. A collator that finds
# padding *by its id* then sees padding in every end mark, and takes them out of the loss. transformers'
# collator for language models does that. TRL's goes by length.

# %% tags=["core", "claim-K8"]
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling as CollatorOfTrl

row = {"input_ids": of_one[0]["input_ids"]}
by_id = DataCollatorForLanguageModeling(tokenizer, mlm=False)([row])["labels"][0].tolist()
by_length = CollatorOfTrl(pad_token_id=tokenizer.pad_token_id)([row])["labels"][0].tolist()
print("pad is eos:", tokenizer.pad_token == tokenizer.eos_token)
print("end marks in the row:", row["input_ids"].count(tokenizer.eos_token_id))
print("of them trained on, transformers' collator:", by_id.count(tokenizer.eos_token_id))
print("of them trained on, TRL's collator:", by_length.count(tokenizer.eos_token_id))

# %% [markdown]
# A model that is never shown its end learns everything but when to stop. In the record below you will see
# what it writes instead.
#
# ### Rows that see each other
#
# *Packing* puts several short rows into one long one, so that nothing is padding. Then a row can look at
# the row before it, unless somebody prevents that. Take two rows, and compare the logits of the second,
# alone and behind the first:

# %% tags=["core", "nbval-ignore-output", "claim-K11"]
first, second = of_one[0]["input_ids"], of_one[1]["input_ids"]
together = torch.tensor([first + second])
restarted = torch.tensor([[*range(len(first)), *range(len(second))]])
with torch.no_grad():
    alone = model(torch.tensor([second])).logits[0]
    ways = {
        "behind each other": model(together),
        "positions restarted, no cache": model(together, position_ids=restarted, use_cache=False),
        "positions restarted, with a cache": model(together, position_ids=restarted, use_cache=True),
    }
leak = {name: (out.logits[0, len(first) :] - alone).abs().max().item() for name, out in ways.items()}
Table(["how", "largest difference of a logit"], [[name, f"{value:.2g}"] for name, value in leak.items()])

# %% tags=["core"]
assert leak["positions restarted, no cache"] < 1e-3 < 1 < leak["behind each other"]

# %% [markdown]
# Where the positions start again at 0, transformers understands that a new row begins and lets it see only
# itself, exactly; but only while no cache is in use. TRL's strategy `bfd` (the default) packs whole rows
# and restarts positions. Its `wrapped` glues all rows together and cuts every so many tokens, also in the
# middle of an answer.
#
# > **Guide 001 says**: rows contaminate each other "if your chat template uses attention masks improperly".
# > *Imprecise*: the template has nothing to do with it, the positions do.
#
# > **Predict.** 512 rows of the course, 8 rows a step without packing: 64 steps an epoch. Packed into rows
# > of 1,024 tokens, still 8 a step: how many steps?

# %% tags=["core"]
guess = None  # your guess, in steps

# %% tags=["core", "claim-K10"]
from trl.data_utils import pack_dataset

ids_of_rows = []
for row in tickets.as_prompt_completion(tickets.load("train")[:512]):
    messages = row["prompt"] + row["completion"]
    ids_of_rows.append(tokenizer.apply_chat_template(messages, return_dict=True)["input_ids"])
unpacked = Dataset.from_dict({"input_ids": ids_of_rows})
packed = {how: len(pack_dataset(unpacked, 1024, strategy=how)) for how in ("bfd", "wrapped")}
lengths = [len(row) for row in ids_of_rows]
real, padded = sum(lengths), sum(8 * max(lengths[i : i + 8]) for i in range(0, 512, 8))
print(packed, "rows of 1,024; padding was", f"{100 * (1 - real / padded):.0f} % of what went through before")
predictions.compare(guess, packed["bfd"] / 8, unit="steps")

# %% [markdown]
# > **Guide 001 says**: with samples of 200 tokens and rows of 2,048, packing gives "roughly 10 times more
# > useful compute". *Imprecise*: that is against padding each row to 2,048. Trainers pad to the longest of
# > the batch, so what is won here is the padding above. And the price is easy to overlook: an eighth of the
# > steps. A learning rate that suited 64 steps will not reach far in 8. Lower the rows a step, or plan more
# > epochs.
#
# ### The input that is dropped
#
# Alpaca's form has three columns: instruction, input, output. Guide 002's function for it uses two.

# %% tags=["core", "claim-K5"]
alpaca = [
    {"instruction": "Name the intent.", "input": "Where is my parcel?", "output": "delivery"},
    {"instruction": "Name the intent.", "input": "The zip is broken.", "output": "defect"},
]


def without_input(row: dict) -> list[dict]:
    return [{"role": "user", "content": row["instruction"]}, {"role": "assistant", "content": row["output"]}]


def with_input(row: dict) -> list[dict]:
    asked = f"{row['instruction']}\n\n{row['input']}" if row["input"] else row["instruction"]
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": row["output"]}]


for convert in (without_input, with_input):
    print(convert.__name__, [messages[0]["content"] for messages in map(convert, alpaca)])

# %% [markdown]
# Without the input the two rows ask the same and answer differently. A model can only learn how often each
# answer comes.
#
# ### The wrong template, later
#
# And the sixth: train with one format, serve with another. It costs no training at all. What it costs
# otherwise, guess now.

# %% [markdown]
# > **Predict.** The model is tuned with the right template, and gets some share of the messages right. Now
# > a program asks it in another format: the system prompt, an empty line, `user: …`, `assistant:`. How much
# > of that share is left, in percent of it?

# %% tags=["core"]
guess = None  # your guess, in percent

# %% [markdown]
# ## What each of them costs
#
# The same base model, the same 256 rows in the same order, the same adapters at the start, 32 steps: only
# the format differs. These runs take hours on one core, so they are *recorded* (`python3 lab.py experiment
# chat_formats` makes them anew). Each is then asked for the right answers: how surprising are they, in
# [nats](../glossary.md#nats)? Would the model choose them, token by token, and then stop?

# %% tags=["core", "claim-K2"]
cells = experiments.published("chat_formats")["cells"]
right, otherwise = (figures.right(cells, ("template", form)) for form in ("template", "hand_rolled"))
print(f"right with the template: {100 * right:.0f} %, asked with roles by hand: {100 * otherwise:.0f} %")
predictions.compare(guess, 100 * otherwise / right, unit="%")

# %% tags=["core"]
plots.show(
    figures.what_it_costs(cells, "Another format in training costs little, another one later costs much"),
    "Differences in nats an answer from the model's template, with intervals. Near 0 lie roles by hand, "
    "Alpaca's form, loss on the prompt, rendered too early, BOS twice, masked ends, packing with all steps, "
    "and untrained marks. Far right lie packing with an eighth of the steps, the dropped input and, asked "
    "otherwise, roles by hand, Llama's marks and, furthest, no system turn.",
)

# %% tags=["core"]
figures.table_of_formats(cells)

# %% [markdown]
# Read the blue half first, where a model is asked as it was trained. Roles by hand and Alpaca's preamble
# cost nothing that these rows could show: the model does not care which marks it gets. Where the prompt is
# in the loss, in three of the arms, an answer costs about a quarter of a nat more; some of what was learned
# went into writing prompts. Rows that see each other cost a little, too. Two blue points lie far out, and
# neither is about marks: packing left 4 steps of 32, and who trained without the input had nothing to
# answer from.
#
# Now the orange half: the weights are those of the right template, and only the question is written
# otherwise. Without the system turn next to nothing is left, since this model met its task description in
# front of every single row. With plain-text roles three quarters of what was right is lost. The format is
# not good or bad; it is *the same* or not.
#
# Then the column "then stops". With masked ends the answers are nearly as good as ever, and a third to two
# thirds of them run on until somebody cuts them off. With *untrained marks*, of which more below, none
# stops. No loss curve of the answers shows it. Generate a few replies before you call a fine-tune done, and
# look at how they end.
#
# > **Guide 000 says**: two identical runs with different templates, and 50 % difference. *Not reproduced
# > here* between two formats that are each used in training and in use; between the same weights asked in
# > two formats the difference is larger than that. The guide does not say which of the two it saw. Its
# > advice, the model's own template, is sound for the reason in the orange half: it is what everybody else
# > will use.
#
# What this is: a 135M model, 256 rows, two seeds. Between the seeds of one arm lies as much as between most
# blue points, so their order means nothing. What lies far out lies there in both.

# %% [markdown]
# ## A base model has no template
#
# A *base* model has seen text, not conversations. Its tokenizer brings no template, and transformers has no
# default:

# %% tags=["core", "claim-K1"]
base_like = type(tokenizer).from_pretrained(tokenizer.name_or_path)
base_like.chat_template = None
try:
    base_like.apply_chat_template(conversation, tokenize=False)
except ValueError as error:
    print("ValueError:", str(error).split(" and no template")[0])

# %% [markdown]
# > **Guide 004 says**: a working configuration is the *base* Llama-3.1-8B with `apply_chat_template`.
# > *Wrong*: base checkpoints come without a template (as reported for the Llama 3 base models; the files
# > were not fetched here).
#
# The tempting repair is one line: `tokenizer.chat_template = ...` from the Instruct model. The error is
# gone. But the marks of that template are tokens that a base model has never been trained on: their rows in
# the [embedding](../glossary.md#embedding) are whatever the initialisation left, and LoRA on the linear
# layers does not touch them. In the record above, `untrained marks` imitates that on our model: the rows of
# the two marks were replaced by the mean of all rows and a little noise, and then it was tuned as always.
# It learned the task as well as before, and to end a turn not at all: the output head shares that row, so
# it cannot tell `<|im_end|>` from nothing. Train these two rows as well, 1,152 numbers, and every reply
# ends.
#
# > **In practice**: begin with an Instruct edition. If it must be a base model, choose marks that it knows
# > (its own EOS), or train the rows of the new ones: PEFT's `trainable_token_indices`. Where head and
# > embedding are one, as here, TRL 1.16's own loss stops at it with an AttributeError; the record takes the
# > loss from the model's logits instead.

# %% [markdown]
# ## Data: forms, copies, splits
#
# ### Three forms and one
#
# What you download comes as Alpaca (above), as ShareGPT, or as messages. Trainers take the last. ShareGPT
# calls the turns `conversations`, the fields `from` and `value`, and the roles `human` and `gpt`:

# %% tags=["core"]
sharegpt = {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello!"}]}
ROLES = {"human": "user", "gpt": "assistant", "system": "system"}
messages = []
for turn in sharegpt["conversations"]:
    messages.append({"role": ROLES[turn["from"]], "content": turn["value"]})
print(messages)

# %% [markdown]
# A role that is not in the table raises a KeyError, and that is as it should be: `tool` or `function`
# turned into `user` in silence would be one more fault that nobody sees.
#
# ### Copies: before or after the split?
#
# Guide 001: "Never apply deduplication, filtering … to the combined dataset and then split." Try it. Take
# 1,000 of the course's messages, and let 300 of them come twice, the second time with a small difference,
# as happens when data is gathered from several places.

# %% tags=["core"]
lots = random.Random(0)
texts = [row["text"] for row in tickets.load("train")[:1000]]
gathered = texts + [f"{text.rstrip('.!')} !" for text in lots.sample(texts, 300)]
lots.shuffle(gathered)


def plain(text: str) -> str:
    """The text without case, blanks and punctuation: what near copies have in common."""
    return re.sub(r"\W", "", text.lower())


def without_copies(texts: list[str]) -> list[str]:
    """The first of each group of near copies."""
    return list({plain(text): text for text in reversed(texts)}.values())


def split(texts: list[str]) -> tuple[list[str], list[str]]:
    """Training and test texts, four to one."""
    return texts[len(texts) // 5 :], texts[: len(texts) // 5]


# %% [markdown]
# > **Predict.** Split first and take the copies out of each side. What share of the test texts still has a
# > copy in the training data?

# %% tags=["core"]
guess = None  # your guess, in percent


# %% tags=["core"]
def leaked(train: list[str], test: list[str]) -> float:
    """The share of test texts, in percent, of which the training data has a near copy."""
    known = {plain(text) for text in train}
    return 100 * sum(plain(text) in known for text in test) / len(test)


split_first = leaked(*(without_copies(side) for side in split(gathered)))
copies_first = leaked(*split(without_copies(gathered)))
print(f"split, then remove copies: {split_first:.0f} % of the test texts are known")
print(f"remove copies, then split: {copies_first:.0f} %")
predictions.compare(guess, split_first, unit="%")
assert copies_first == 0

# %% [markdown]
# > **Guide 001** warns of *filtering* on the whole data, and for what is learned from data (a threshold, an
# > augmentation, a paraphrase) it is right: split first. For copies it is the other way round: *wrong*
# > there. Only who sees both sides can see a copy across them.
#
# ### Split by what belongs together
#
# And if copies are to stay, because they are variants of one thing (rows of one customer, of one document,
# of one *family* here)? Then the group decides the side, by its hash: the same side each time, on each
# machine, also when rows are added.


# %% tags=["core"]
def side(group: str) -> str:
    """ "test" for a fifth of the groups, "train" for the others."""
    return "test" if int(hashlib.sha256(group.encode()).hexdigest(), 16) % 5 == 0 else "train"


of_families = {"train": set(), "test": set()}
for row in tickets.load("train"):
    of_families[side(row["family"])].add(row["family"])
print({name: len(families) for name, families in of_families.items()}, "families, none on both sides")
assert not of_families["train"] & of_families["test"]

# %% [markdown]
# ### How many rows, how varied, how clean?
#
# "500 to 2,000 examples help", says one guide (001), another (004) the same, a third speaks of thousands.
# That depends on the task. What can be separated is *how many rows* from *how long you train*: here each
# run takes 32 steps of 8 rows, so 256 looks at a row, whether these are 32 rows eight times or 256 rows
# once. Beside the curve stand 128 rows of 43 families, up to three of each phrasing, and 256 rows of which
# 8 % have one wrong value (a guide (001) tells of synthetic data with 8 % wrong codes that spoilt a
# fine-tune).

# %% tags=["core", "claim-K13"]
curve = experiments.published("learning_curve")["cells"]
plots.show(
    figures.learning(curve, "At equal steps, 64 different rows do as much as 256"),
    "Nats an answer over 32 to 256 different rows, on lookalike and production messages: higher at 32 rows, "
    "flat from 64 on. 128 rows of few families lie above the curve, 256 rows with wrong labels on it.",
)

# %% tags=["core"]
figures.table_of_rows(curve)

# %% [markdown]
# 32 rows eight times are too few. From 64 rows on the curve is flat: as long as the steps are the same,
# more different rows bring nothing that two seeds can show. But *different* must mean something. 128 rows
# of 43 phrasings are worse than 256 rows on both sets; than 128 rows of 128 phrasings they are worse on
# production messages, and on lookalikes the interval reaches 0. Rows that resemble each other count less
# than once.
#
# One row in twelve with a wrong value does no visible harm here. That is not the guide's case: its errors
# were made by one process, in the same way again and again, and its test set had them too, so nobody saw
# them. Errors made by lot, as here, cancel out.
#
# Compare all of it with packing above: 4 steps instead of 32 cost 6 nats. In a run this short it is the
# *steps* that decide, and "how many examples" is largely a question of how long one trains.
#
# > **Guides 001, 003 and 004** give numbers of examples, from 500 to 50,000. *Underpowered here*: this
# > record cannot say where more rows stop to help, and says nothing at all of a 7B model or of another
# > task.

# %% [markdown]
# ## Five snippets that no longer run
#
# Libraries rename their arguments, and a guide cannot follow. Most of the guides' training code stops at
# once with today's versions, which is the friendly case. Repair these five; the check runs what you wrote.

# %% [markdown]
# ### Exercise 4: a configuration
#
# > **4 minutes · ●○○**
# >
# > Return an SFTConfig: 2 epochs, rows of at most 512 tokens, a warm-up of a tenth of the steps, an
# > evaluation every epoch, on the processor in float32.


# %% tags=["core"]
def snippet_1(output_dir):
    # return SFTConfig(
    #     output_dir=output_dir,
    #     num_train_epochs=2,
    #     max_seq_length=512,
    #     warmup_ratio=0.1,
    #     evaluation_strategy="epoch",
    #     no_cuda=True,
    #     bf16=False,
    # )
    ### BEGIN SOLUTION
    return SFTConfig(
        output_dir=output_dir,
        num_train_epochs=2,
        max_length=512,
        warmup_steps=0.1,
        eval_strategy="epoch",
        use_cpu=True,
        bf16=False,
    )
    ### END SOLUTION


exercises.snippet_1.check(snippet_1)

# %% tags=["core"]
# exercises.snippet_1.hint()
runs_1 = exercises.snippet_1.or_reference(snippet_1)

# %% [markdown]
# ### Exercise 5: a trainer
#
# > **5 minutes · ●○○**
# >
# > Return an SFTTrainer that packs the texts of the column `note` into rows of 16 tokens.


# %% tags=["core"]
def snippet_2(model, tokenizer, dataset, output_dir):
    # config = SFTConfig(output_dir=output_dir, use_cpu=True, bf16=False)
    # return SFTTrainer(
    #     model=model,
    #     tokenizer=tokenizer,
    #     args=config,
    #     train_dataset=dataset,
    #     dataset_text_field="note",
    #     max_seq_length=16,
    #     packing=True,
    # )
    ### BEGIN SOLUTION
    settings = {"dataset_text_field": "note", "max_length": 16, "packing": True}
    config = SFTConfig(output_dir=output_dir, use_cpu=True, bf16=False, **settings)
    return SFTTrainer(model=model, processing_class=tokenizer, args=config, train_dataset=dataset)
    ### END SOLUTION


exercises.snippet_2.check(snippet_2)

# %% tags=["core"]
# exercises.snippet_2.hint()
runs_2 = exercises.snippet_2.or_reference(snippet_2)

# %% [markdown]
# ### Exercise 6: the answers alone
#
# > **6 minutes · ●●○**
# >
# > Return an SFTTrainer for `conversations`, lists of messages that end with the assistant's. Only that
# > last answer is to be trained on.


# %% tags=["core"]
def snippet_3(model, tokenizer, conversations, output_dir):
    # from trl import DataCollatorForCompletionOnlyLM
    #
    # texts = [tokenizer.apply_chat_template(messages, tokenize=False) for messages in conversations]
    # collator = DataCollatorForCompletionOnlyLM("<|im_start|>assistant", tokenizer=tokenizer)
    # return SFTTrainer(
    #     model=model,
    #     processing_class=tokenizer,
    #     args=SFTConfig(output_dir=output_dir, use_cpu=True, bf16=False),
    #     train_dataset=Dataset.from_dict({"text": texts}),
    #     data_collator=collator,
    # )
    ### BEGIN SOLUTION
    rows = [{"prompt": messages[:-1], "completion": messages[-1:]} for messages in conversations]
    return SFTTrainer(
        model=model,
        processing_class=tokenizer,
        args=SFTConfig(output_dir=output_dir, use_cpu=True, bf16=False),
        train_dataset=Dataset.from_list(rows),
    )
    ### END SOLUTION


exercises.snippet_3.check(snippet_3)

# %% tags=["core"]
# exercises.snippet_3.hint()
runs_3 = exercises.snippet_3.or_reference(snippet_3)

# %% [markdown]
# ### Exercise 7: four bits
#
# > **5 minutes · ●○○**
# >
# > Return the model in `folder` in NF4 with double quantisation, computing in bfloat16.


# %% tags=["core"]
def snippet_4(folder):
    # return AutoModelForCausalLM.from_pretrained(
    #     folder,
    #     torch_dtype=torch.bfloat16,
    #     load_in_4bit=True,
    #     bnb_4bit_quant_type="nf4",
    #     bnb_4bit_use_double_quant=True,
    #     bnb_4bit_compute_dtype=torch.bfloat16,
    # )
    ### BEGIN SOLUTION
    nf4 = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, quantization_config=nf4)
    ### END SOLUTION


exercises.snippet_4.check(snippet_4)

# %% tags=["core"]
# exercises.snippet_4.hint()
runs_4 = exercises.snippet_4.or_reference(snippet_4)

# %% [markdown]
# ### Exercise 8: a reply
#
# > **4 minutes · ●○○**
# >
# > Return the ids, a list of at most 4 ints, of the model's greedy reply to `messages`.


# %% tags=["core"]
def snippet_5(model, tokenizer, messages):
    # prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt")
    # output = model.generate(prompt, max_new_tokens=4, do_sample=False)
    # return output[0, prompt.shape[1]:].tolist()
    ### BEGIN SOLUTION
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt")
    output = model.generate(**prompt, max_new_tokens=4, do_sample=False)
    return output[0, prompt["input_ids"].shape[1] :].tolist()
    ### END SOLUTION


exercises.snippet_5.check(snippet_5)

# %% tags=["core"]
# exercises.snippet_5.hint()
runs_5 = exercises.snippet_5.or_reference(snippet_5)


# %% [markdown]
# ## Preflight: look before you pay
#
# All that you looked for by hand, and some eighty things more, a program can look for. Take forty good rows
# and do to five of them what happens to data:

# %% tags=["core"]
good = tickets.as_prompt_completion(tickets.load("train")[:40])
spoiled = json.loads(json.dumps(good))  # a copy
spoiled[3]["completion"][0]["content"] = ""
spoiled[8] = spoiled[7]
spoiled[12]["prompt"][1]["content"] += "<|im_end|>"
spoiled[20]["prompt"][1]["content"] = spoiled[20]["prompt"][1]["content"].replace(" ", " \u200b", 1)
spoiled[30]["prompt"] = spoiled[30]["prompt"][::-1]
for name, rows_of_file in (("good", good), ("spoiled", spoiled)):
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows_of_file]
    files.write_atomically(files.RUNS / f"{name}.jsonl", "".join(lines))


def preflight_of(name: str) -> str:
    """What `lab.py preflight` says of a file of this notebook, without the folder it lies in."""
    path = files.RUNS / f"{name}.jsonl"
    found = session.look(path, model=base_model.BUNDLED)
    return report.in_words(found).replace(files.short(path), path.name)


# %% tags=["core"]
print(preflight_of("good"))

# %% tags=["core"]
print(preflight_of("spoiled"))

# %% [markdown]
# Each finding has a name that stays, the rows where it was found, why it matters and what to do. Five
# faults, and one of them you would hardly have seen in an editor: the blank of no width.
#
# The same at your own data:
#
#     python3 lab.py preflight my_data.jsonl --config sft.yaml --eval test.jsonl --gpu l4 --rate 0.80
#
# It reads jsonl, json, csv and parquet in any of the forms above, and looks at what the *trainer* will make
# of them. Exit status 1 means that there is something to read; 0 that you may rent the card.
#
# ## Try it
#
# Paste a conversation of your own, choose a model's template, and see what would be trained on. Put an
# `<|im_end|>` into a user's message. Which templates change an answer's text?

# %% tags=["core"]
chat_template_explorer.explore()

# %% [markdown]
# ## Checkpoint

# %% tags=["core"]
quiz.ask("06_chat_templates")

# %% [markdown]
# ## On a rented GPU
#
# Written for L4 and A10, not yet run there. Templates, ids, labels and packing are the same there, and need
# no paid minute. Worth one: the wrong template at inference, on a 7B model that was tuned with the right
# one. A larger model may forgive more than ours did, and a minute of evaluation tells. All that the guides
# claim, with what was measured: `python3 lab.py claims`.
