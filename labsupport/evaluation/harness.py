"""lm-evaluation-harness on the course's own data and models: the numbers that ours are held to.

The harness reads a task from a configuration, usually a YAML file. These two say how a row becomes text:
`canary` is likelihood-scored multiple choice, `general` the perplexity of plain text. Nothing is downloaded:
the data are handed over as they are. (`dataset_path: json` would read a file as well, and tell the hub's
servers that it did.) `evaluate` is called and not `simple_evaluate`, which reseeds every generator of the
process and asks the hub for the model by its name.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator

from labsupport.core import randomness
from labsupport.core.files import LabError
from labsupport.models.modes import evaluation_mode

CANARY = {
    "task": "canary",
    "output_type": "multiple_choice",
    "test_split": "test",
    "num_fewshot": 0,
    "doc_to_text": "Question: {{question}}\nAnswer:",
    "doc_to_choice": "choices",  # a column; each choice is put behind the text and one blank
    "doc_to_target": "answer",
    "metric_list": [
        {"metric": metric, "aggregation": "mean", "higher_is_better": True}
        for metric in ("acc", "acc_norm", "acc_bytes")
    ],
}
GENERAL = {
    "task": "general",
    "output_type": "loglikelihood_rolling",
    "test_split": "test",
    "num_fewshot": 0,
    "doc_to_text": "",
    "doc_to_target": "text",
    "metric_list": [
        {"metric": "word_perplexity", "aggregation": "weighted_perplexity", "higher_is_better": False},
        {"metric": "byte_perplexity", "aggregation": "weighted_perplexity", "higher_is_better": False},
        {"metric": "bits_per_byte", "aggregation": "bits_per_byte", "higher_is_better": False},
    ],
}


def multiple_choice(model, tokenizer, rows: list[dict], batch_size: int = 16) -> dict:
    """What the harness measures on questions in the form of the canary's (`question`, `choices`, `answer`).

    Returns its shares of right answers `acc` (lowest summed NLL), `acc_norm` (lowest NLL a character, without
    the blank) and `acc_bytes` (lowest NLL a byte, without the blank), and `nll`, in nats: for each question
    one a choice. LabError if there are no rows.
    """
    results, samples = _run(model, tokenizer, CANARY, rows, batch_size)
    nll = [[-log_likelihood for log_likelihood, _ in sample["filtered_resps"]] for sample in samples]
    return {**results, "nll": nll}


def perplexities(model, tokenizer, texts: list[str], batch_size: int = 2) -> dict:
    """What the harness measures on plain texts.

    Returns its `word_perplexity`, `byte_perplexity` (exp of the summed NLL over the summed count) and
    `bits_per_byte`; and for each text `nll` (nats, summed over its tokens, the first included, which is
    predicted from the BOS), `words` (as many as re.split(r"\\s+", text) finds) and `bytes` (of UTF-8).
    LabError if there are no texts.
    """
    results, samples = _run(model, tokenizer, GENERAL, [{"text": text} for text in texts], batch_size)
    pairs = {name: [sample[name] for sample in samples] for name in ("word_perplexity", "byte_perplexity")}
    return {
        **results,
        "nll": [-log_likelihood for log_likelihood, _ in pairs["word_perplexity"]],
        "words": [words for _, words in pairs["word_perplexity"]],
        "bytes": [count for _, count in pairs["byte_perplexity"]],
    }


def _run(model, tokenizer, config: dict, rows: list[dict], batch_size: int) -> tuple[dict, list[dict]]:
    """A task's metrics and what was noted of each row, in the order of the rows."""
    if not rows:
        raise LabError(f"The task {config['task']} has no rows: give at least one.")
    with quiet(), randomness.kept(), evaluation_mode(model):
        from datasets import Dataset
        from lm_eval.evaluator import evaluate
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks import TaskManager

        task = {**config, "custom_dataset": lambda **_: {"test": Dataset.from_list(rows)}}
        tasks = TaskManager(include_defaults=False).load([task])
        lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size)
        found = evaluate(lm, tasks, bootstrap_iters=0)
    name = config["task"]
    metrics = [entry["metric"] for entry in config["metric_list"]]
    samples = sorted(found["samples"][name], key=lambda sample: sample["doc_id"])
    return {metric: float(found["results"][name][f"{metric},none"]) for metric in metrics}, samples


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the harness's messages and progress bars, which it has no switch for."""
    logger = logging.getLogger("lm_eval")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logger.setLevel(before)
