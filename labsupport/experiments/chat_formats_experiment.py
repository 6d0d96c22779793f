"""What a wrong prompt format, template, end token, loss mask or packing costs, one mistake an arm.

Every arm has the same base weights, the same 256 rows of `train` (one of each family), the same adapters at
the start and order of rows for a seed, and the course's recipe in micro-batches of 8: one epoch, 32 steps
(packed arms: as recorded). Arms, and the formats in which they are scored:
- untuned: no training.
- template: messages, prompt and completion, by the model's own template. Its weights are also scored in five
  formats that they were not trained in: no_system (no system turn), one_bos and two_bos (one or two tokens of
  a BOS that training did not have), hand_rolled, llama3_strings (Llama 3's headers, plain text to this
  tokenizer).
- hand_rolled: plain strings "system, blank line, user: text, assistant:".
- prerendered: the whole conversation rendered to text, so that TRL trains on the prompt and adds a second end
  token. prerendered_bos: the same with a tokenizer that adds BOS to a text that has one; scored with one and
  with two.
- full_row_loss: the right tokens, all of them in the loss. Its labels are also those of transformers'
  collator with a pad token of its own. collator_pad_is_eos: that collator with pad = end token, which masks
  every end token of the row.
- bfd_batch8, bfd_batch1: rows packed into 1024 tokens, 8 or 1 such sequences a step. wrapped: as bfd_batch1,
  but rows are cut at 1024 tokens and see the ones before them.
- alpaca: Alpaca's preamble, instruction and input. alpaca_dropped: the formatter that leaves the input out;
  scored as trained and with the input.
- untrained_specials: the base's rows of <|im_start|> and <|im_end|> in the tied embedding replaced by the
  mean of all rows plus a little noise, as new tokens get. untrained_specials_trained: these two rows are
  trained too.

Scored: one row of each family of test_lookalike (144) and every third row of test_production (67),
teacher-forced: negative log-likelihood of the right answer in nats by field, of keys and brackets (rest) and
of the end token (end), whether every token of the answer was the first choice (exact) and the end token after
it (stops). Written: greedy replies of at most 64 tokens to 12 rows of each set. One processor, one thread,
two seeds.
"""

from __future__ import annotations

ROWS = 256
WRITTEN = 12  # rows of each test set
ARMS = (
    "template",
    "hand_rolled",
    "full_row_loss",
    "prerendered",
    "collator_pad_is_eos",
    "bfd_batch1",
    "wrapped",
    "bfd_batch8",
    "alpaca_dropped",
    "alpaca",
    "untrained_specials",
    "untrained_specials_trained",
    "prerendered_bos",
)
SCORED_IN = {
    "untuned": ("template", "hand_rolled", "llama3_strings", "alpaca"),
    "template": ("template", "hand_rolled", "llama3_strings", "no_system", "one_bos", "two_bos"),
    "hand_rolled": ("hand_rolled",),
    "alpaca": ("alpaca",),
    "alpaca_dropped": ("alpaca_dropped", "alpaca"),
    "prerendered_bos": ("one_bos", "two_bos"),
}
CELLS = [{"arm": arm, "seed": seed} for seed in (0, 1) for arm in ARMS] + [{"arm": "untuned", "seed": 0}]


def run(cell: dict) -> dict:
    """How the arm trained, what it trained on, and how well it answers in each format it is scored in."""
    import torch

    from labsupport.core import upstream
    from labsupport.format_runs import format_training, prompt_formats
    from labsupport.models import base_model
    from labsupport.tasks import tickets
    from labsupport.training import run_store

    upstream.keep_freed_memory()
    torch.set_num_threads(1)
    arm, result = cell["arm"], {}
    if arm == "untuned":
        model, tokenizer = base_model.load()
    else:
        trainer = format_training.trainer(arm, tickets.load("train")[:ROWS], cell["seed"])
        result["data"] = format_training.counted(trainer)
        result["first_row"] = format_training.first_row(trainer)
        result["training"] = format_training.log(run_store.recorded(trainer, f"chat_formats_{arm}"))
        model, tokenizer = trainer.model, trainer.processing_class
    sets = prompt_formats.test_sets()
    some = [row for rows in sets.values() for row in prompt_formats.spread(rows, WRITTEN)]
    for name in SCORED_IN.get(arm, ("template",)):
        result[name] = {
            split: prompt_formats.scored(model, tokenizer, name, rows) for split, rows in sets.items()
        }
        result[name]["written"] = prompt_formats.written(model, tokenizer, name, some)
    return result
