"""A fine-tune as it lies on the disk: what the trainer wrote, the rows it was trained on, the replies."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from labsupport.core.files import LabError, first_line, read_text, short
from labsupport.row_files.json_rows import what_is
from labsupport.run_folders import pickled_values
from labsupport.run_folders.joining import joined
from labsupport.training_data.forms import Form, find_form, to_record
from labsupport.training_data.reading import Rows
from labsupport.training_data.record import Record

CONFIG, ADAPTER, STATE = "adapter_config.json", "adapter_model.safetensors", "trainer_state.json"
WHOLE_MODEL = ("model.safetensors", "model.safetensors.index.json")
FIRST = 100  # rows from which a file's form is told
CHECKPOINT = re.compile(r"checkpoint-(\d+)")
OLD_NAMES = {"max_seq_length": "max_length", "gradient_checkpointing": "activation_checkpointing"}
SECRETS = ("hub_token", "push_to_hub_token")  # lie in a training_args.bin in plain text
TOKENS = Form("tokens", {})  # rows that are turned into input_ids already


@dataclass
class RunFolder:
    """A run, opened. Nothing is ever written into it.

    folder: what was asked for. checkpoint: the newest checkpoint-N in it, None without one. place: where the
    adapter lies, folder or checkpoint; None for a run without an adapter. state: trainer_state.json
    ("log_history": a dict a log line, "global_step", "num_train_epochs", ...), {} without one.
    adapter_config: as PEFT wrote it, {} without one. arguments: the plain values of training_args.bin by
    today's names, completed by the settings; {} without either. base: the base model's name or folder, None
    if nothing says it. train_rows, eval_rows: the rows as they stand in the files, None without a file.
    replies: dicts with id and reply, in the order in which they were generated; None without a file.
    files: what was found where, by "train", "eval", "replies", "settings", "arguments", "state". notes: what
    was not found or could not be looked at, in a sentence each.
    """

    folder: Path
    checkpoint: Path | None = None
    place: Path | None = None
    state: dict = field(default_factory=dict)
    adapter_config: dict = field(default_factory=dict)
    arguments: dict = field(default_factory=dict)
    base: str | None = None
    train_rows: list[dict] | None = None
    eval_rows: list[dict] | None = None
    replies: list[dict] | None = None
    files: dict[str, Path] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def log(self) -> list[dict]:
        """The lines of the log that hold a training loss."""
        return [line for line in self.state.get("log_history", []) if "loss" in line]

    @property
    def eval_log(self) -> list[dict]:
        """The lines of the log that hold an evaluation loss."""
        return [line for line in self.state.get("log_history", []) if "eval_loss" in line]

    @functools.cached_property
    def recipe(self) -> dict:
        """What decides how rows become tokens, by SFTConfig's names: the run's own, else TRL's defaults."""
        from labsupport.token_checks.trainer_view import DEFAULTS

        return DEFAULTS | {name: self.arguments[name] for name in DEFAULTS if name in self.arguments}

    def weights(self) -> dict:
        """The adapter's tensors by name, as stored (often "….lora_A.weight", shape (r, inputs), and
        "….lora_B.weight", shape (outputs, r)); {} without an adapter. LabError if they cannot be read."""
        if self.place is None:
            return {}
        if self._weights is None:
            from safetensors.torch import load_file

            with reading(self.place / ADAPTER):
                self._weights = load_file(self.place / ADAPTER)
        return self._weights

    def tokenizer(self):
        """The run's own tokenizer, else its base model's; None (and a note) where neither can be had."""
        if self._tokenizer is None and not self._asked_tokenizer:
            from labsupport.run_folders.base_of_run import tokenizer_of

            self._asked_tokenizer = True
            self._tokenizer = tokenizer_of(self)
        return self._tokenizer

    @property
    def chat_template(self) -> str:
        """The tokenizer's chat template, "" without one."""
        from labsupport.token_checks.chat_markers import template_of

        tokenizer = self.tokenizer()
        return "" if tokenizer is None else template_of(tokenizer)

    def base_folder(self) -> Path | None:
        """Where the base model lies on this machine (config.json and weights), None where it does not. Only
        a --model that is named is ever fetched."""
        from labsupport.run_folders.base_of_run import folder_of_base

        return folder_of_base(self)

    def form(self, which: str = "train") -> Form | None:
        """The form of the rows of "train" or "eval": TOKENS for rows with input_ids. None without rows.
        LabError for rows of no known form."""
        rows = self.rows(which)
        if which not in self._forms and rows is not None:
            self._forms[which] = form_of_rows(rows, self.files[which], self.arguments)
        return self._forms.get(which)

    def records(self, which: str = "train") -> list[Record]:
        """The rows of "train" or "eval" in the one shape that checks look at; [] without rows, and for rows
        that are tokens already."""
        form = self.form(which)
        if form is None or form is TOKENS:
            return []
        if which not in self._records:
            named = enumerate(self.rows(which), start=1)
            self._records[which] = [to_record(n, f"row {n}", raw, form) for n, raw in named]
        return self._records[which]

    def rows(self, which: str) -> list[dict] | None:
        """The rows of "train" or "eval" as they stand in the file."""
        return self.train_rows if which == "train" else self.eval_rows

    def pairs(self) -> list[tuple[Record, str]]:
        """(evaluation row, its reply), in the order of the replies; [] where one of both is missing."""
        if self.replies is None or self.eval_rows is None:
            return []
        places = {row["id"]: place for place, row in enumerate(self.eval_rows)}
        records = self.records("eval")
        return [(records[places[one["id"]]], one["reply"]) for one in self.replies] if records else []

    def __post_init__(self):
        self._weights, self._tokenizer, self._asked_tokenizer = None, None, False
        self._forms, self._records = {}, {}


def opened(path, data=None, eval=None, replies=None, model=None, config=None) -> RunFolder:
    """The run in a folder: what `trainer.save_model()` and `trainer.save_state()` wrote, or a checkpoint-N.

    data, eval, replies, config: files, where they do not lie in the folder as train.jsonl, eval.jsonl,
    replies.jsonl and settings.yaml. model: the base model's folder or name. Raises LabError, in one line, for
    a folder that is no run, for damaged files, rows of no known form, replies that cannot be joined with the
    evaluation's rows, and an adapter that does not fit the base model.
    """
    folder = Path(path)
    check_folder(folder)
    checkpoints = checkpoints_in(folder)
    run = RunFolder(folder, checkpoints[0] if checkpoints else None)
    places = [folder, *checkpoints]
    run.place = next((place for place in places if (place / ADAPTER).is_file()), None)
    run.state = state_of(run, places)
    check_is_run(run)
    take_adapter(run)
    take_settings(run, places, config)
    take_rows(run, data, eval, replies)
    run.base = base_named(run, model)
    from labsupport.run_folders.base_of_run import check_fits

    check_fits(run, named=model is not None)
    return run


def check_folder(folder: Path) -> None:
    """LabError for what is no folder."""
    if folder.is_file():
        raise LabError(f"{short(folder)} is a file: give the folder that the trainer wrote (its output_dir).")
    if not folder.is_dir():
        raise LabError(f"There is no folder {short(folder)}: give the one that the trainer wrote.")


def checkpoints_in(folder: Path) -> list[Path]:
    """The checkpoint-N folders, the newest first."""
    found = [(int(name[1]), one) for one in folder.iterdir() if (name := CHECKPOINT.fullmatch(one.name))]
    return [one for _, one in sorted(found, reverse=True) if one.is_dir()]


def check_is_run(run: RunFolder) -> None:
    """LabError for a folder with neither an adapter nor a log."""
    if run.place is not None or run.state:
        if run.place is None:
            run.notes.append("There is no adapter in the folder, so weights were not checked.")
        return
    if (run.folder / "adapter_model.bin").is_file():
        raise LabError(
            f"{short(run.folder)} holds the adapter as adapter_model.bin, a pickle, which is not read: save "
            "it again as safetensors."
        )
    raise LabError(
        f"{short(run.folder)} is no run: it holds neither {ADAPTER} nor {STATE}, nor a checkpoint-N with "
        "them. Give the trainer's output_dir, after trainer.save_model() and trainer.save_state()."
    )


def json_object(path: Path) -> dict:
    """The object in a JSON file; LabError for what is none."""
    text = read_text(path)
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        cut = " It ends too early: was the trainer killed while it wrote?" if not complete(text) else ""
        raise LabError(
            f"{short(path)} is not JSON ({first_line(error)}).{cut} Take a copy that is."
        ) from None
    if not isinstance(found, dict):
        raise LabError(f"{short(path)} holds {what_is(found)} and no object: it is not the trainer's.")
    return found


def complete(text: str) -> bool:
    return text.rstrip().endswith("}")


def state_of(run: RunFolder, places: list[Path]) -> dict:
    """The trainer's state: of the folder, else of the newest checkpoint that has one."""
    place = next((place for place in places if (place / STATE).is_file()), None)
    if place is None:
        run.notes.append(f"There is no {STATE}, so the log was not checked: trainer.save_state() writes it.")
        return {}
    run.files["state"] = place / STATE
    state = json_object(place / STATE)
    log = state.get("log_history")
    if not isinstance(log, list) or not all(isinstance(line, dict) for line in log):
        raise LabError(f"{short(place / STATE)} has no log_history: it is not the trainer's.")
    for line in log:
        for name, value in line.items():
            if isinstance(value, str) and value.lower().lstrip("+-") in ("nan", "inf", "infinity"):
                line[name] = float(value)  # as programs write it that keep to JSON
    if not any("loss" in line for line in log):
        run.notes.append("The log holds no training loss, so it was not checked: set logging_steps lower.")
    return state


def take_adapter(run: RunFolder) -> None:
    """Read adapter_config.json, and see that the weights can be read."""
    if run.place is None:
        return
    from safetensors import safe_open

    with reading(run.place / ADAPTER), safe_open(run.place / ADAPTER, "pt") as file:
        empty = [name for name in file.keys() if 0 in file.get_slice(name).get_shape()]  # noqa: SIM118
    if empty:
        raise LabError(
            f"{short(run.place / ADAPTER)} holds no numbers for {empty[0]}: DeepSpeed ZeRO-3 saves it so "
            "where the parts are not gathered. Set stage3_gather_16bit_weights_on_model_save, and save again."
        )
    if not (run.place / CONFIG).is_file():
        raise LabError(f"{short(run.place)} holds {ADAPTER} without {CONFIG}: PEFT writes both; copy both.")
    run.adapter_config = json_object(run.place / CONFIG)


@contextlib.contextmanager
def reading(path: Path):
    """While a safetensors file is read: one that is damaged becomes the LabError that names it."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:
        raise corrupt(path, error) from error


def corrupt(path: Path, error: Exception) -> LabError:
    return LabError(f"{short(path)} is damaged ({first_line(error)}): copy it anew, or save it again.")


def take_settings(run: RunFolder, places: list[Path], config) -> None:
    """Read training_args.bin, and the settings for what it does not say."""
    path = next((p / "training_args.bin" for p in places if (p / "training_args.bin").is_file()), None)
    if path is not None:
        run.files["arguments"] = path
        try:
            found = pickled_values.arguments_in(path)
        except pickled_values.Unreadable as error:
            found = {}
            run.notes.append(f"{short(path)} could not be read ({error}): give the settings with --config.")
        run.arguments = {OLD_NAMES.get(name, name): value for name, value in found.items()} | {
            name: found[name] for name in OLD_NAMES.values() if name in found
        }
    given = Path(config) if config is not None else run.folder / "settings.yaml"
    if config is not None or given.is_file():
        from labsupport.settings_checks import recipe

        run.files["settings"] = given
        run.arguments = recipe.read(given).given | run.arguments
    run.arguments = {name: value for name, value in run.arguments.items() if name not in SECRETS}
    if run.arguments and "max_length" not in run.arguments and "settings" not in run.files:
        run.arguments["max_length"] = None
        run.notes.append("training_args.bin has no max_length, as TRL's have: rows are taken as never cut.")
    if not run.arguments:
        run.notes.append("The settings are not known (no training_args.bin, no --config): TRL's are assumed.")


def take_rows(run: RunFolder, data, eval, replies) -> None:
    """Read the rows and the replies that were named or lie in the folder."""
    beside = [run.folder]
    if CHECKPOINT.fullmatch(run.folder.name) or CHECKPOINT.fullmatch(run.folder.resolve().name):
        beside.append(run.folder.resolve().parent)
    for which, named in (("train", data), ("eval", eval), ("replies", replies)):
        found = (place / f"{which}.jsonl" for place in beside)
        path = Path(named) if named is not None else next((p for p in found if p.is_file()), None)
        if path is not None:
            run.files[which] = path
    run.train_rows, run.eval_rows, said = (
        [row for _, _, row in Rows(run.files[which])] if which in run.files else None
        for which in ("train", "eval", "replies")
    )
    for which in ("train", "eval"):
        drop_preferences(run, which)
        run.form(which)  # raises for rows that nobody can read
    if said is not None:
        run.replies = joined(said, run.eval_rows, run.files, asked=replies is not None, notes=run.notes)
    for which, option, lost in (
        ("train", "--data", "the training rows"),
        ("eval", "--eval", "rows that training and evaluation share"),
        ("replies", "--replies", "the replies"),
    ):
        if which not in run.files:
            run.notes.append(f"Not checked: {lost} (give {option} FILE).")


def drop_preferences(run: RunFolder, which: str) -> None:
    """Leave rows of preferences out, which are DPO's: of these no sign is known."""
    rows = run.rows(which)
    if rows and {"chosen", "rejected"} <= rows[0].keys():
        setattr(run, f"{which}_rows", None)
        run.notes.append(f"Not checked: {short(run.files[which])}, which holds preferences (DPO).")


def form_of_rows(rows: list[dict], path: Path, arguments: dict) -> Form:
    """The form of a file's rows. LabError where none is known."""
    few = list(itertools.islice(rows, FIRST))
    if few and all("input_ids" in row for row in few):
        return TOKENS
    column = arguments.get("dataset_text_field")
    if column and column != "text" and any(isinstance(row.get(column), str) for row in few):
        plain = not any(find_column(row) for row in few)
        if plain:
            return Form("text", {"text": column})
    return find_form(few, name=short(path))


def find_column(row: dict) -> bool:
    """Whether TRL would take the row for a conversation or a prompt with its completion."""
    return "messages" in row or ("prompt" in row and "completion" in row)


def base_named(run: RunFolder, model: str | None) -> str | None:
    """The base model's name or folder: --model, what the adapter says, what the settings say."""
    named = model or run.adapter_config.get("base_model_name_or_path")
    return named or run.arguments.get("model_name_or_path") or None
