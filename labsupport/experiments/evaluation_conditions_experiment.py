"""One fine-tune, asked in many ways: which choices of an evaluation change its result, and by how much?

The course's recipe (notebook 01: 512 rows, seed 0), trained once. Scored teacher-forced on one row of each
family of test_lookalike (144) and on every third row of test_production (67): NLL of the right answer in
nats, and whether every token of it was the first choice. Written out: replies to 48 rows of each set, of at
most 64 tokens.
- scoring: batches of 1 and 8, padding left and right, weights in bfloat16, float32 and NF4 (double
  quantisation, float32 products), adapter merged into bfloat16 and into float32 weights;
- writing: batches of 1 and 16, padding left and right, merged, float32; three samples of the production rows
  at temperature 1 and 0.7; constrained by a grammar, the untuned model too;
- leakage: 144 of the rows it was trained on, 144 other rows of the families it was trained on (the same
  phrasing with other products and numbers), to be held beside new families and production;
- elsewhere: what the tuned and the untuned model write when the message is no ticket and there is no ticket
  prompt: 10 chat openings of data/general, 30 questions of the canary, 40 questions of data/policy.
One thread.
"""

from __future__ import annotations

CELLS = [{"part": part} for part in ("leakage", "writing", "scoring", "sampling", "elsewhere")]
WRITTEN, SAMPLES, LEAKED = 48, 3, 144
TEMPERATURES = (1.0, 0.7)


def run(cell: dict) -> dict:
    """The rows' results under each condition, by the condition's name."""
    import torch

    from labsupport.core import upstream

    upstream.keep_freed_memory()
    torch.set_num_threads(1)
    return {
        "scoring": scoring_part,
        "writing": writing_part,
        "sampling": sampling_part,
        "leakage": leakage_part,
        "elsewhere": elsewhere_part,
    }[cell["part"]]()


def adapter_folder():
    """The folder of the trained adapter; trained if it is not there."""
    from labsupport.core import files
    from labsupport.training import recipe, run_store

    trainer = recipe.trainer(seed=0)
    done = run_store.recorded(trainer, "first_fine_tune")
    folder = files.RUNS / "evaluation_conditions" / done.fingerprint[:12]
    trainer.model.save_pretrained(folder)
    return folder


def tuned(dtype: str = "bfloat16"):
    """Model with the adapter, and tokenizer; the base in the given number format."""
    from peft import PeftModel

    from labsupport.models import base_model

    folder = adapter_folder()
    model, tokenizer = base_model.load(dtype=dtype)
    return PeftModel.from_pretrained(model, folder).eval(), tokenizer


def columns(scores: list[dict]) -> dict[str, list]:
    """Scores as columns: nll of the whole answer (nats) and exact."""
    return {
        "nll": [round(score["nll"]["all"], 4) for score in scores],
        "exact": [int(score["exact"]) for score in scores],
    }


def scoring_part() -> dict:
    """Every way of scoring, on both sets."""
    from labsupport.core import profiles
    from labsupport.evaluation import conditions
    from labsupport.format_runs.prompt_formats import test_sets

    ways = {
        "bfloat16, batch 8, left": ("bfloat16", 8, "left"),
        "bfloat16, batch 1": ("bfloat16", 1, "left"),
        "bfloat16, batch 8, right": ("bfloat16", 8, "right"),
        "float32": ("float32", 8, "left"),
        "nf4": ("nf4", 8, "left"),
    }
    result: dict = {"trained in": profiles.current().dtype}
    for name, (dtype, size, side) in ways.items():
        model, tokenizer = tuned(dtype)
        result[name] = {
            split: columns(conditions.score(model, tokenizer, rows, size, side))
            for split, rows in test_sets().items()
        }
    for dtype in ("bfloat16", "float32"):
        model, tokenizer = tuned(dtype)
        merged = model.merge_and_unload()
        result[f"{dtype}, merged"] = {
            split: columns(conditions.score(merged, tokenizer, rows, 8, "left"))
            for split, rows in test_sets().items()
        }
    return result


def some_rows() -> dict[str, list[dict]]:
    """The rows to which replies are written."""
    from labsupport.format_runs import prompt_formats

    return {split: prompt_formats.spread(rows, WRITTEN) for split, rows in prompt_formats.test_sets().items()}


def writing_part() -> dict:
    """Greedy replies in several ways, and under a grammar."""
    from labsupport.evaluation import conditions
    from labsupport.models import base_model

    ways = {
        "bfloat16, batch 1": ("bfloat16", 1, "left", False),
        "bfloat16, batch 16, left": ("bfloat16", 16, "left", False),
        "bfloat16, batch 16, right": ("bfloat16", 16, "right", False),
        "bfloat16, merged, batch 16": ("bfloat16", 16, "left", True),
        "float32, batch 16": ("float32", 16, "left", False),
    }
    result = {}
    for name, (dtype, size, side, merge) in ways.items():
        model, tokenizer = tuned(dtype)
        model = model.merge_and_unload() if merge else model
        result[name] = {
            split: conditions.written(model, tokenizer, [row["text"] for row in rows], size, side)
            for split, rows in some_rows().items()
        }
    result["constrained"] = constrained(*tuned())
    result["constrained, untuned"] = constrained(*base_model.load(dtype="bfloat16"))
    return result | {"ids": {split: [row["id"] for row in rows] for split, rows in some_rows().items()}}


def constrained(model, tokenizer) -> dict[str, list[str]]:
    """Replies that the grammar of the task admits."""
    from labsupport.baselines import prompt_scoring
    from labsupport.models import chat

    result = {}
    for split, rows in some_rows().items():
        prompts = [chat.prompt_ids(tokenizer, row["text"]) for row in rows]
        result[split] = prompt_scoring.generate(model, tokenizer, rows, prompts, constrained=True)
    return result


def sampling_part() -> dict:
    """Sampled replies to the production rows: at each temperature SAMPLES lists of them."""
    import torch

    from labsupport.evaluation import conditions

    model, tokenizer = tuned()
    rows = some_rows()["test_production"]
    result: dict = {"ids": [row["id"] for row in rows]}
    for temperature in TEMPERATURES:
        result[str(temperature)] = []
        for seed in range(SAMPLES):
            torch.manual_seed(seed)
            # top_k and top_p of the model's own generation settings would cut the distribution
            how = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
            texts = [row["text"] for row in rows]
            result[str(temperature)].append(conditions.written(model, tokenizer, texts, 24, **how))
    return result


def leakage_part() -> dict:
    """Scores on rows of training, and on other rows of the families of training."""
    from labsupport.core import profiles
    from labsupport.evaluation import conditions
    from labsupport.tasks import tickets

    model, tokenizer = tuned()
    train = tickets.load("train")
    seen, others = train[: profiles.get("cpu").train_rows], train[profiles.get("cpu").train_rows :]
    families = {row["family"] for row in seen}
    siblings = tickets.one_of_each_family([row for row in others if row["family"] in families])
    step = len(siblings) // LEAKED
    chosen = siblings[::step][:LEAKED]
    own = {row["family"]: row for row in seen}
    sets = {"trained rows": [own[row["family"]] for row in chosen], "siblings": chosen}
    return {
        name: {"id": [row["id"] for row in rows], "family": [row["family"] for row in rows]}
        | columns(conditions.score(model, tokenizer, rows, 8, "left"))
        for name, rows in sets.items()
    }


def elsewhere_part() -> dict:
    """Replies of the tuned and of the untuned model to prompts that are no tickets."""
    from labsupport.evaluation import scoring
    from labsupport.tasks import canary, general, policy

    model, tokenizer = tuned()
    asked = {
        "chat": [row["messages"][:1] for row in general.load() if row["kind"] == "chat"],
        "canary": [[{"role": "user", "content": row["question"]}] for row in canary.load()[::4]],
        "policy": [policy.prompt(row) for row in policy.load("test")[::3]],
    }
    result = {}
    for name, prompts in asked.items():
        ids = [
            tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)["input_ids"]
            for messages in prompts
        ]
        with model.disable_adapter():
            before = scoring.replies(model, tokenizer, ids, 40, 8)
        after = scoring.replies(model, tokenizer, ids, 40, 8)
        result[name] = [
            {"asked": messages[-1]["content"][:200], "untuned": one, "tuned": other}
            for messages, one, other in zip(prompts, before, after, strict=True)
        ]
    return result
