"""Notebook 08's exercise on what TRL does to adapters on four bits: it makes them bfloat16."""

from __future__ import annotations

from labsupport.checking.exercise import Exercise, told
from labsupport.core import upstream
from labsupport.notebooks.nb08_qlora_training import tiny_models
from labsupport.training import recipe


def _formats(parameters: dict) -> list[str]:
    """Each format there is among them, with the number of parameters that have it."""
    formats = [str(p.dtype).removeprefix("torch.") for p in parameters.values()]
    return [f"{formats.count(one)} in {one}" for one in sorted(set(formats))]


def use(fn, adapters: str) -> dict:
    """What fn(model) leaves of a tiny model of that kind whose optimizer is there already."""
    import torch

    upstream.guard_4bit_on_cpu()
    model = tiny_models.tuned(adapters)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    fn(model)
    after = dict(model.named_parameters())
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    same = all(torch.equal(p, before[name].to(p.dtype)) for name, p in after.items())
    trained = {name: p for name, p in after.items() if p.requires_grad}
    return {
        "trained": _formats(trained),
        "frozen": _formats({name: p for name, p in after.items() if not p.requires_grad}),
        "trained and held by the optimizer": sum(id(p) in held for p in trained.values()),
        "values": "as before" if same else "changed",
    }


def _cases() -> list[tuple]:
    tiny_models.folder()
    return [("LoRA",), ("LoRA and a head",), ("LoRA beside an older one",)]


# ---------------------------------------------------------------- what people write


def _cast_where(wanted):
    """Casts in place what wanted(name, parameter) picks."""

    def mend(model):
        for name, parameter in model.named_parameters():
            if wanted(name, parameter):
                parameter.data = parameter.data.float()

    return mend


def _thrown_away(model):
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter = parameter.float()


def _new_parameters(model):
    import torch

    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if parameter.requires_grad:
                setattr(module, name, torch.nn.Parameter(parameter.detach().float()))


def _prepared(model):
    from peft import prepare_model_for_kbit_training

    prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)


mend_adapters = Exercise(
    name="qlora_training.mend_adapters",
    reference=recipe.adapters_in_float32,
    used=use,
    cases=_cases,
    mistakes=told(
        _thrown_away,
        "float() makes a new tensor, and the model keeps its old one: give the parameter the new data, "
        "parameter.data = ...",
        _cast_where(lambda name, p: p.is_floating_point()),
        "Frozen norms, embeddings and head are float32 now as well. No step changes them, so they lose "
        "nothing in bfloat16: cast only what requires a gradient.",
        _cast_where(lambda name, p: p.requires_grad and "lora_A" in name),
        "Only A is float32; B is trained as well.",
        _cast_where(lambda name, p: p.requires_grad and "lora_" in name),
        "A trained head is left in bfloat16, as it has no lora_ in its name: requires_grad says what is "
        "trained, names do not.",
        _cast_where(lambda name, p: "lora_" in name),
        "You go by names: a trained head has no lora_ in its own, and a frozen adapter has. Ask "
        "requires_grad.",
        _cast_where(lambda name, p: p.requires_grad or "norm" in name),
        "The norms are float32 now, too: they are frozen, so leave them.",
        _new_parameters,
        "The model has new parameters now, and an optimizer that is there already would go on stepping the "
        "old ones: keep the parameter, and replace its data.",
        _prepared,
        "prepare_model_for_kbit_training freezes every parameter, adapters too, so nothing would be trained. "
        "It is for a base before the adapters are put on.",
    ),
    hints=[
        "model.parameters() gives all of them; which are trained, each says itself: requires_grad.",
        "A parameter must stay the same object, as the optimizer holds it. Its content is parameter.data.",
        "parameter.data = parameter.data.float(), where parameter.requires_grad.",
    ],
    minutes=8,
    difficulty=2,
)
