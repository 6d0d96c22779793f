"""Whose tokenizer and template the rows are looked at with. Weights are never fetched."""

from __future__ import annotations

import re
from pathlib import Path

from labsupport.core.files import LabError, first_line
from labsupport.token_checks.chat_markers import SPEAKS

# What a family's names begin with -> its template in data/chat_templates, which stands in where the model's
# own tokenizer cannot be had. Only for editions that speak to people: a base model has no template.
FAMILIES = {
    r"llama-?3": "llama-3.1",
    r"mistral-7b": "mistral-v0.3",
    r"qwen-?2": "qwen2.5",
    r"qwen-?3": "qwen3",
    r"gemma-?2": "gemma-2",
    r"smollm2": "chatml",
}
ADDS_BOS = {"llama-3.1", "mistral-v0.3", "gemma-2"}  # their tokenizers put BOS in front of every text


def of_model(model: str | None, of_settings: bool = False) -> tuple[object | None, str]:
    """The tokenizer of a model, and a sentence for the report where it is not the model's own ("" otherwise).

    model: a folder, a name on the hub, a name of the course, or None: the course's base model. Where it
    cannot be loaded, a known family's template stands in, with other tokens; a model that the settings name
    (`of_settings`) and the planner knows may go without. LabError for any other.
    """
    from labsupport.models import base_model

    if model is None:
        said = f"No model is named, so templates and tokens are those of {base_model.BUNDLED}: give --model."
        return loaded(base_model.path(base_model.BUNDLED)), said
    try:
        return loaded(folder_of(model)), ""
    except Exception as error:  # whatever transformers or a damaged file says
        reason = str(error) if isinstance(error, LabError) else f"{first_line(error)}."
        stand_in = template_of(model)
        if stand_in is not None:
            said = f"its family's template ({stand_in}) stands in with the course's tokens: counts are rough."
            return standing_in(stand_in), f"The tokenizer of {model} could not be loaded here; {said}"
        if of_settings and is_planned(model):
            return None, f"Tokens were not looked at: give --model a folder with the tokenizer. {reason}"
        named_by = "model_name_or_path" if of_settings else "--model"
        raise LabError(
            f"No tokenizer can be loaded for {named_by} {model!r}: {reason} A folder needs tokenizer.json "
            "and tokenizer_config.json."
        ) from error


def is_planned(model: str) -> bool:
    """Whether `lab.py plan` knows the model's shape."""
    from labsupport.setups.setup import config_named

    try:
        config_named(model)
    except LabError:
        return False
    return True


def folder_of(model: str) -> str:
    """Where a model's tokenizer lies: in a folder of one's own, the course's, or fetched from the hub.

    LabError for what is neither a folder nor a name on the hub, for a folder without a tokenizer, for what
    cannot be fetched.
    """
    from labsupport.models import base_model, hub

    if model and base_model.BUNDLED.startswith(model):
        return base_model.path(base_model.BUNDLED)
    folder = Path(model).expanduser()
    if model and folder.is_dir():
        if not hub.has_tokenizer(folder):
            raise LabError("the folder holds no tokenizer.")
        return str(folder)
    name = hub.ON_THE_HUB.get(model, model)
    if folder.is_file() or not hub.is_name(name):
        raise LabError("it is neither a folder nor a name on the hub such as owner/model.")
    return str(hub.fetch_tokenizer(name))


def loaded(folder: str):
    """The tokenizer in a folder; nothing is fetched, and no code of its own is run."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def template_of(model: str) -> str | None:
    """The template in data/chat_templates of a model's family; None for families that are not there."""
    from labsupport.configs.model_names import last_part

    name = last_part(model).removeprefix("meta-")
    known = (template for begin, template in FAMILIES.items() if re.match(begin, name))
    # A bare name, such as the planner's llama-3.1-8b, says nothing of the edition.
    return next(known, None) if "/" not in model or SPEAKS.search(name) else None


def standing_in(template: str):
    """The course's tokenizer with another family's template and marks, and BOS where that family adds it."""
    from labsupport.chat_formats import templates
    from labsupport.models import base_model

    own = templates.tokenizer_with(loaded(base_model.path(base_model.BUNDLED)), template)
    return templates.adding_bos(own) if template in ADDS_BOS else own
