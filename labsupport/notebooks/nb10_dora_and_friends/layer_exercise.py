"""Notebook 10's central exercise, DoRA's layer as a class: judged by what it does, not how it is written."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from labsupport.checking.exercise import Exercise, told
from labsupport.models import dora, lora


def _put(parameter: torch.Tensor, values: torch.Tensor) -> None:
    """Give a parameter these values; of another number of entries, so many of them, again and again."""
    count = parameter.numel()
    repeated = values.flatten().repeat(count // values.numel() + 1)[:count]
    parameter.data.copy_(repeated.view(parameter.shape))


def _gradients(layer, output) -> dict:
    """Of a weighted sum of the output, what arrives at A, B and m; None where nothing does."""
    names = ["A", "B", "m"]
    weights = torch.arange(output.numel()).cos().view(output.shape)
    if not output.requires_grad:
        return dict.fromkeys(names)
    reached = [getattr(layer, name) for name in names]
    wanted = [tensor for tensor in reached if tensor.requires_grad]
    found = torch.autograd.grad((weights * output).sum(), wanted, allow_unused=True)
    flat = [None if gradient is None else gradient.flatten() for gradient in found]  # m may be a column
    by_id = dict(zip(map(id, wanted), flat, strict=True))
    return {name: by_id.get(id(tensor)) for name, tensor in zip(names, reached, strict=True)}


def _start(layer, base, x) -> dict[str, str]:
    """In words, for another answer draws other random numbers."""
    said = {name: "not zero" if getattr(layer, name).any() else "zero" for name in ("A", "B")}
    same = torch.allclose(layer(x), base(x), rtol=1e-4, atol=1e-4)
    return said | {"output": "what the base computes" if same else "something else"}


def use(layer_class, weight, bias, A, B, m, alpha, x) -> dict:
    """What a learner's layer does from its start to merging, as numbers by name."""
    base = nn.Linear(weight.shape[1], weight.shape[0])
    base.weight.data, base.bias.data = weight.clone(), bias.clone()
    layer = layer_class(base, A.shape[0], alpha)
    trained = sorted(name for name, parameter in layer.named_parameters() if parameter.requires_grad)
    with torch.no_grad():
        found = {
            "trainable parameters": trained,
            "entries of m": layer.m.numel(),
            "m at the start": layer.m.detach().flatten().clone(),
            "at the start": _start(layer, base, x),
        }
    _put(layer.A, A), _put(layer.B, B), _put(layer.m, m)
    output = layer(x)
    found["output"], found["gradients"] = output.detach(), _gradients(layer, output)
    layer.merge()
    found["weight after merge"] = base.weight.detach().clone()
    found["output when merged"] = layer(x).detach()
    return found


def _cases() -> list[tuple]:
    generator = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.randn(*shape, generator=generator)

    sizes = (((6, 9), 4, 7, 5), ((8, 8), 2, 32.0, 3), ((7, 5), 3, 1, 2))
    return [
        (
            random(*shape),
            random(shape[0]),
            random(rank, shape[1]),
            random(shape[0], rank),
            1 + random(shape[0]).abs(),
            alpha,
            random(rows, shape[1]),
        )
        for shape, rank, alpha, rows in sizes
    ]


# Each mistake is a right layer with one thing wrong.


class _Layer(nn.Module):
    """A right one in small parts, each of which a mistake can replace."""

    def __init__(self, base, rank, alpha):
        super().__init__()
        plain = lora.LoRALinear(base, rank, alpha)
        self.base, self.alpha, self.rank, self.merged = base, alpha, rank, False
        self.A, self.B = plain.A, plain.B
        self.m = nn.Parameter(self.norm(base.weight.detach()))

    def norm(self, weight):
        return weight.norm(dim=1, keepdim=True)

    def scale(self):
        return self.alpha / self.rank

    def changed(self):
        return self.base.weight + self.scale() * self.B @ self.A

    def length(self):
        return self.norm(self.changed()).detach()

    def weight(self):
        return self.m * self.changed() / self.length()

    def merged_weight(self):
        return self.weight()

    def forward(self, x):
        if self.merged:
            return self.base(x)
        return F.linear(x, self.weight(), self.base.bias)

    @torch.no_grad()
    def merge(self):
        self.base.weight.copy_(self.merged_weight())
        self.merged = True


def _with(**methods):
    """The right layer, but for these methods."""
    return type("Wrong", (_Layer,), methods)


def _begun(change):
    """The right layer, to which change(layer) happens at its start."""

    def begin(self, base, rank, alpha):
        _Layer.__init__(self, base, rank, alpha)
        change(self)

    return _with(__init__=begin)


def _merged_but_not_remembered(self):
    with torch.no_grad():
        self.base.weight.copy_(self.weight())


def _bias_scaled(self, x):
    if self.merged:
        return self.base(x)
    c = (self.m / self.length()).T
    return c * (self.base(x) + self.scale() * x @ self.A.T @ self.B.T)


def _no_bias(self, x):
    return self.base(x) if self.merged else F.linear(x, self.weight())


def _update_outside(self):
    return self.m * self.base.weight / self.norm(self.base.weight) + self.scale() * self.B @ self.A


layer = Exercise(
    name="dora_and_friends.layer",
    reference=dora.DoRALinear,
    used=use,
    cases=_cases,
    mistakes=told(
        _with(norm=lambda self, weight: weight.norm(dim=0, keepdim=True)),
        "The norm is along the wrong axis: m has one entry an input. A weight is (out, in), and PEFT takes "
        "the norm of each row, dim=1, one for each output.",
        (
            _with(norm=lambda self, weight: weight.norm().view(1, 1)),
            _with(length=lambda self: self.changed().norm().detach()),
        ),
        "That is one norm of the whole matrix: each row has its own, dim=1.",
        _with(length=lambda self: self.norm(self.changed())),
        "The norm takes part in the gradient: outputs and merged weight are right, the gradients of A and B "
        "are not. Section 4.3 of the paper holds it constant, and so does PEFT: .detach() it.",
        _with(scale=lambda self: 1),
        "The factor alpha / r is missing. The paper's formula has none, but PEFT scales B A with it, in the "
        "norm as well.",
        _with(scale=lambda self: self.alpha),
        "B A is scaled by alpha; the factor is alpha / r.",
        _with(length=lambda self: self.norm(self.base.weight + self.B @ self.A).detach()),
        "alpha / r is missing in the norm: it is the norm of W + alpha / r · B A, of what it divides.",
        _with(length=lambda self: self.norm(self.base.weight).detach()),
        "You divide by the norm of W alone. That is right until B changes; then rows are longer or shorter "
        "than m says. Take the norm of W + alpha / r · B A each time.",
        _with(length=lambda self: self.norm(self.scale() * self.B @ self.A).detach()),
        "You divide by the norm of B A alone, which is zero at the start: take that of W + alpha / r · B A.",
        _with(weight=lambda self: self.m * self.changed()),
        "The direction is not normalised: divide each row by its norm before m scales it.",
        _with(weight=lambda self: self.m**2 * self.changed() / self.length()),
        "m enters squared: once is enough.",
        _with(weight=lambda self: self.changed() / self.length()),
        "m is not used: every row has the length 1. Multiply it with its entry of m.",
        _with(weight=_update_outside),
        "B A is added after the lengths are set. It changes the direction: add it to W first, then "
        "normalise, then scale with m.",
        _with(merged_weight=_Layer.changed),
        "merge writes W + alpha / r · B A, which is LoRA's: the rows must have their lengths in m.",
        _with(merge=_merged_but_not_remembered),
        "Once merged, forward applies A, B and m a second time: they are in the weight already.",
        _with(forward=_bias_scaled),
        "m and the norm scale the bias, too: it has no direction and stays as it is.",
        _with(forward=_no_bias),
        "The base's bias is missing in the output: F.linear(x, weight, base.bias).",
        _begun(lambda layer: nn.init.ones_(layer.m)),
        "m starts at 1: it must start at the norms of W's rows, so that training starts at the base model.",
        _begun(lambda layer: layer.m.requires_grad_(False)),
        "m is not trained, so this is no DoRA: make it an nn.Parameter.",
        _begun(lambda layer: layer.base.requires_grad_(True)),
        "The frozen weight still trains: call base.requires_grad_(False).",
        _begun(lambda layer: nn.init.normal_(layer.B)),
        "B starts at random: it must start at zero, so that training starts at the base model.",
        _begun(lambda layer: nn.init.zeros_(layer.A)),
        "A starts at zero. With B at zero too, no gradient would ever reach either: draw A at random.",
        _with(weight=lambda self: self.m * (self.changed() / self.length()).detach()),
        "No gradient reaches A and B: detach the norm alone, not the direction.",
    ),
    hints=[
        "In __init__: as in notebook 02, and one more nn.Parameter, m, the norms of the weight's rows. Let "
        "one method give the weight that the layer computes with; forward and merge both need it.",
        "changed = W + alpha / r · B A. Each of its rows is divided by its own norm, which is detached, and "
        "multiplied with its entry of m. m has shape (out,), so m[:, None] goes with rows.",
        "norm = changed.norm(dim=1).detach(); weight = (m / norm)[:, None] * changed; the output is "
        "F.linear(x, weight, base.bias).",
    ],
    minutes=25,
    difficulty=3,
    returns="tensor",
)
