# %%
# Does nothing after `lab.py start`. In a bare kernel, such as Colab's, it installs the course's packages.
import importlib.util, pathlib, runpy, sys

if importlib.util.find_spec("labsupport") is None:
    here = pathlib.Path.cwd()
    folders = [here, *here.parents, *here.glob("*/")]
    found = [f for p in folders if (f := p / "labsupport" / "elsewhere.py").exists()]
    if not found:
        sys.exit(f"No folder labsupport/ in, above or below {here}: clone the course's repository there.")
    runpy.run_path(str(found[0]), run_name="__main__")

# %%
from labsupport import upstream

upstream.quiet_known_noise()  # messages about this stack that you can do nothing about
upstream.keep_freed_memory()  # a faster allocator setting for training on a CPU

# %%
import math
import statistics

import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from labsupport import base_model, chat, checkpoints, counting, evaluation, experiments, lora
from labsupport import plots, predictions, profiles, tickets
from labsupport.claims import expect
from labsupport.experiment_list import spectrum
from labsupport.exercises import lora_math as exercises
from labsupport.explorers import low_rank
from labsupport.files import LabError

# %%
torch.set_num_threads(profiles.current().threads)
print("threads:", torch.get_num_threads())

# %%
torch.manual_seed(0)
lone = nn.Sequential(nn.Linear(1536, 576, bias=False))
wrapped = get_peft_model(lone, LoraConfig(r=16, lora_alpha=32, target_modules=["0"]))
theirs = wrapped.base_model.model[0]
A, B = theirs.lora_A["default"].weight, theirs.lora_B["default"].weight
x = torch.randn(3, 1536)
print("A", tuple(A.shape), "| B", tuple(B.shape))
print("x", x.shape[-1], "-> after A", (x @ A.T).shape[-1], "-> after B", (x @ A.T @ B.T).shape[-1])

# %%
def delta(A: torch.Tensor, B: torch.Tensor, alpha: float) -> torch.Tensor:
    raise NotImplementedError  # your code here


exercises.delta.check(delta)

# %%
# exercises.delta.hint()
delta_of = exercises.delta.or_reference(delta)

# %%
nn.init.normal_(B, std=0.02)  # as if trained: with B = 0 there is nothing to compare
gap = (delta_of(A, B, 32) - theirs.get_delta_weight("default")).abs().max().item()
print("PEFT's factor for r = 16, alpha = 32:", theirs.scaling["default"])
print("your update is PEFT's:", gap < 1e-6)
assert gap < 1e-6

# %%
def uniform_bound(fan_in: int, a: float) -> float:
    raise NotImplementedError  # your code here


exercises.uniform_bound.check(uniform_bound)

# %%
# exercises.uniform_bound.hint()
bound_of = exercises.uniform_bound.or_reference(uniform_bound)

# %%
def kurtosis(values: torch.Tensor) -> float:
    centred = values.detach().double() - values.detach().double().mean()
    return ((centred**4).mean() / (centred**2).mean() ** 2).item()


gaussian_config = LoraConfig(r=16, target_modules=["0"], init_lora_weights="gaussian")
other = get_peft_model(nn.Sequential(nn.Linear(1536, 576, bias=False)), gaussian_config)
gaussian = other.base_model.model[0].lora_A["default"].weight
for name, values in (("default", A), ("asked for Gaussian", gaussian)):
    print(f"{name:18s} largest {values.abs().max().item():.3g}  kurtosis {kurtosis(values):.2f}")
print(f"your bound: {bound_of(1536, math.sqrt(5)):.3g}")

# %%
fig, axes = plots.figure(2, sharey=True)
for panel, values, name in ((axes[0], A, "default"), (axes[1], gaussian, 'init_lora_weights="gaussian"')):
    panel.hist(values.detach().flatten().numpy(), bins=60, color=plots.BLUE)
    panel.set(xlabel="entry of A", title=name)
axes[0].set_ylabel("entries")
fig.suptitle("PEFT's default A is uniform", x=0.02, ha="left")
plots.show(
    fig,
    "Two histograms of the entries of A: flat between two sharp edges by default, bell-shaped and wider "
    "when a Gaussian is asked for.",
)

# %%
def forward(
    x: torch.Tensor,
    dropped: torch.Tensor,
    weight: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    alpha: float,
) -> torch.Tensor:
    raise NotImplementedError  # your code here


exercises.forward.check(forward)

# %%
# exercises.forward.hint()
forward_of = exercises.forward.or_reference(forward)

# %%
class LoRALinear(nn.Module):
    def __init__(self, base: nn.Linear, rank: int, alpha: float, dropout: float = 0.0):
        super().__init__()
        counting.check_rank(rank, base.in_features, base.out_features)
        self.base, self.alpha, self.merged = base.requires_grad_(False), alpha, False
        b = bound_of(base.in_features, math.sqrt(5))
        self.A = nn.Parameter(torch.empty(rank, base.in_features).uniform_(-b, b))
        self.B = nn.Parameter(torch.zeros(base.out_features, rank))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x):
        if self.merged:
            return self.base(x)
        return forward_of(x, self.dropout(x), self.base.weight, self.A, self.B, self.alpha)

    @torch.no_grad()
    def merge(self):
        if not self.merged:  # twice would add the update twice
            self.base.weight += delta_of(self.A, self.B, self.alpha)
        self.merged = True

    @torch.no_grad()
    def unmerge(self):
        if self.merged:
            self.base.weight -= delta_of(self.A, self.B, self.alpha)
        self.merged = False

# %%
for rank in (0, 64, 2.5):
    try:
        LoRALinear(nn.Linear(64, 48, bias=False), rank, alpha=8)
    except LabError as error:
        print(error)
wide = get_peft_model(nn.Sequential(nn.Linear(64, 48)), LoraConfig(r=64, target_modules=["0"]))
print("PEFT, rank 64 on 48 x 64:", tuple(wide.base_model.model[0].lora_A["default"].weight.shape))

# %%
def error(mine: torch.Tensor, other: torch.Tensor) -> float:
    return ((mine - other).abs().max() / other.abs().max()).item()


base = nn.Linear(1536, 576, bias=False)
mine = LoRALinear(nn.Linear(1536, 576, bias=False), 16, 32, dropout=0.1)
mine.base.load_state_dict(base.state_dict())
nn.init.normal_(mine.B, std=0.02)
config = LoraConfig(r=16, lora_alpha=32, lora_dropout=0.1, target_modules=["0"])
theirs = get_peft_model(nn.Sequential(base), config).base_model.model[0]
theirs.lora_A["default"].weight.data = mine.A.detach().clone()
theirs.lora_B["default"].weight.data = mine.B.detach().clone()

# %%
outputs = []
for layer in (mine, theirs):
    torch.manual_seed(1)  # the same entries are dropped
    outputs.append(layer(x))
    outputs[-1].square().mean().backward()
errors = {
    "output": error(*outputs),
    "gradient of A": error(mine.A.grad, theirs.lora_A["default"].weight.grad),
    "gradient of B": error(mine.B.grad, theirs.lora_B["default"].weight.grad),
}
before = mine.base.weight.clone()
mine.merge()
theirs.merge()
errors["merged weight"] = error(mine.base.weight, theirs.base_layer.weight)
assert max(errors.values()) < 1e-6
print("equal to 1e-6:", ", ".join(errors))

# %%
mine.unmerge()
print("bit for bit:", torch.equal(mine.base.weight, before))
print(f"largest difference: {(mine.base.weight - before).abs().max().item():.1g}")
assert error(mine.base.weight, before) < 1e-6

# %%
sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
torch.manual_seed(0)
plain = LlamaForCausalLM(LlamaConfig(vocab_size=101, num_key_value_heads=2, **sizes)).eval()
copy = LlamaForCausalLM(plain.config).eval()
copy.load_state_dict(plain.state_dict())
names = lora.attach(copy, "all-linear", rank=4, alpha=8)
config = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
peft_model = get_peft_model(plain, config).eval()
for name in names:
    layer = copy.get_submodule(name)
    theirs = peft_model.base_model.model.get_submodule(name)
    nn.init.normal_(layer.B, std=0.1)
    theirs.lora_A["default"].weight.data = layer.A.detach().clone()
    theirs.lora_B["default"].weight.data = layer.B.detach().clone()

# %%
ids = torch.randint(101, (2, 12), generator=torch.Generator().manual_seed(0))
for model in (copy, peft_model):
    model(input_ids=ids, labels=ids).loss.backward()
gradient_errors = []
for name in names:
    theirs = peft_model.base_model.model.get_submodule(name)
    for factor, other in (("A", theirs.lora_A), ("B", theirs.lora_B)):
        own = getattr(copy.get_submodule(name), factor)
        gradient_errors.append(error(own.grad, other["default"].weight.grad))
logit_error = error(copy(input_ids=ids).logits, peft_model(input_ids=ids).logits)
print(len(names), "layers:", ", ".join(lora.linear_names(plain.__class__(plain.config))))
print("logits and all gradients equal to 1e-6:", max([logit_error, *gradient_errors]) < 1e-6)
assert max([logit_error, *gradient_errors]) < 1e-6

# %%
try:
    lora.attach(LlamaForCausalLM(plain.config), ["q_proj", "v_porj"], rank=4, alpha=8)
except LabError as problem:
    print(problem)
misspelt = LoraConfig(r=4, target_modules=["q_proj", "v_porj"], task_type="CAUSAL_LM")
found = get_peft_model(LlamaForCausalLM(plain.config), misspelt).targeted_module_names
print("PEFT adapts:", sorted({name.rpartition(".")[2] for name in found}))

# %%
def factor_gradients(
    weight_gradient: torch.Tensor, A: torch.Tensor, B: torch.Tensor, alpha: float
) -> tuple[torch.Tensor, torch.Tensor]:
    raise NotImplementedError  # your code here


exercises.factor_gradients.check(factor_gradients)

# %%
# exercises.factor_gradients.hint()
gradients_of = exercises.factor_gradients.or_reference(factor_gradients)

# %%
model, tokenizer = base_model.load("smollm2-135m-instruct", dtype="float32", device="cpu")
batch = [chat.encode_example(tokenizer, row) for row in tickets.load("train")[:2]]
ids, mask = chat.pad_left([e.ids for e in batch], tokenizer.pad_token_id)
wanted, _ = chat.pad_left([chat.labels(e.ids, e.prompt_length) for e in batch], chat.IGNORED)
with torch.no_grad():
    before = model(input_ids=ids, attention_mask=mask).logits
torch.manual_seed(0)
names = lora.attach(model, "all-linear", rank=16, alpha=32)
block = model.model.layers[15]
looked_at = {"q_proj": block.self_attn.q_proj, "down_proj": block.mlp.down_proj}
for layer in looked_at.values():
    layer.base.weight.requires_grad_(True)  # only to see G; nothing updates it
logits = model(input_ids=ids, attention_mask=mask).logits
print(len(names), "adapters; logits unchanged, bit for bit:", torch.equal(before, logits))
assert torch.equal(before, logits)

# %%
chat.answer_loss(logits, wanted).backward()
adapters = [model.get_submodule(name) for name in names]
print("A with a gradient other than zero:", sum(bool(layer.A.grad.any()) for layer in adapters))
print("B with a gradient other than zero:", sum(bool(layer.B.grad.any()) for layer in adapters))

# %%
assert not any(layer.A.grad.any() for layer in adapters)
for name, layer in looked_at.items():
    by_formula = gradients_of(layer.base.weight.grad, layer.A, layer.B, 32)[1]
    close = error(by_formula, layer.B.grad) < 1e-4  # sums over 250 tokens in another order
    print(name, "B's gradient by your formula:", "equal" if close else "different")
    assert close

# %%
guess = None  # your guess, in percent of the update

# %%
lr = 2e-4
doubled = lora.toy_updates("adam", 32, lr, lr)
claimed = lora.toy_updates("adam", 16, 2 * lr, 2 * lr)
for step in (1, 2, 10, 50, 200):
    print(f"step {step:3d}: {100 * lora.apart(doubled, claimed, step):.2g} % apart")
predictions.compare(guess, 100 * lora.apart(doubled, claimed, 200), unit="%")

# %%
root = math.sqrt(2)
same = {
    "lr of B doubled": lora.toy_updates("adam", 16, lr, 2 * lr),
    "lr and A times sqrt(2)": lora.toy_updates("adam", 16, root * lr, root * lr, a_factor=root),
}
for name, run in same.items():
    worst = max(lora.apart(doubled, run, step) for step in range(1, 201))
    print(f"Adam, {name}: equal to 1e-9 at every step: {worst < 1e-9}")
    assert worst < 1e-9

# %%
lr_sgd = 1e-2
doubled_sgd = lora.toy_updates("sgd", 32, lr_sgd, lr_sgd)
fourfold = lora.toy_updates("sgd", 16, 4 * lr_sgd, 4 * lr_sgd)
single = lora.toy_updates("sgd", 16, lr_sgd, lr_sgd)
print(f"first update, alpha 32 over alpha 16: {(doubled_sgd[1].norm() / single[1].norm()).item():.3g}")
for step in (1, 2, 10, 50):
    print(f"4 x lr, step {step:3d}: {100 * lora.apart(doubled_sgd, fourfold, step):.2g} % apart")
same = {
    "lr of B times 4": lora.toy_updates("sgd", 16, lr_sgd, 4 * lr_sgd),
    "2 x lr, A times sqrt(2)": lora.toy_updates("sgd", 16, 2 * lr_sgd, 2 * lr_sgd, a_factor=root),
}
for name, run in same.items():
    worst = max(lora.apart(doubled_sgd, run, step) for step in range(1, 201))
    print(f"SGD, {name}: equal to 1e-9 at every step: {worst < 1e-9}")
    assert worst < 1e-9

# %%
decayed = lora.toy_updates("adam", 32, lr, lr, weight_decay=0.1)
other = lora.toy_updates("adam", 16, root * lr, root * lr, a_factor=root, weight_decay=0.1)
print(f"with weight decay 0.1, after 200 steps: {100 * lora.apart(decayed, other, 200):.1g} % apart")

# %%
fig, axes = plots.figure()
steps = range(1, 201)
axes.plot(
    steps, [100 * lora.apart(doubled, claimed, s) for s in steps], color=plots.ORANGE, label="Adam, 2 lr"
)
sgd_apart = [100 * lora.apart(doubled_sgd, fourfold, s) for s in steps]
axes.plot(steps, sgd_apart, color=plots.BLUE, linestyle="--", label="SGD, 4 lr")
axes.axhline(0, color=plots.GREY, linestyle=":", label="the exact rules")
axes.set(xlabel="step", ylabel="distance of the updates (%)")
axes.set_title("Alpha times 2 is no multiple of the learning rate")
axes.legend()
plots.show(
    fig,
    "Distance between training with alpha 32 and with alpha 16 and a higher learning rate, over 200 steps: "
    "both curves start at 0; Adam's rises and levels off, SGD's rises further and falls again; the exact "
    "rules stay at 0.",
)

# %%
ranks = (4, 16, 64, 256)
rules = {
    "alpha fixed": lambda rank: (32, False),
    "alpha = 2r": lambda rank: (2 * rank, False),
    "rsLoRA": lambda rank: (32, True),
}
growth = {}
for optimizer in ("adam", "sgd"):
    for rule, settings in rules.items():
        sizes = [lora.first_step(optimizer, rank, *settings(rank)) for rank in ranks]
        growth[optimizer, rule] = [size / sizes[0] for size in sizes]
        text = "  ".join(f"{value:7.3g}" for value in growth[optimizer, rule])
        print(f"{optimizer:5s} {rule:12s} r = 4, 16, 64, 256: {text}")

# %%
fig, axes = plots.figure(2, sharey=True)
colours = (plots.BLUE, plots.ORANGE, plots.GREEN)
for panel, optimizer in zip(axes, ("adam", "sgd"), strict=True):
    for (rule, colour), marker in zip(zip(rules, colours, strict=True), "os^", strict=True):
        panel.plot(ranks, growth[optimizer, rule], color=colour, marker=marker, label=rule)
    panel.set(xlabel="rank", title={"adam": "Adam", "sgd": "SGD"}[optimizer], xscale="log", yscale="log")
    panel.set_xticks(ranks, ranks)
    panel.minorticks_off()
axes[0].set_ylabel("first change of the output\n(rank 4 = 1)")
axes[1].legend()
fig.suptitle("Which rule makes the rank harmless depends on the optimizer", x=0.02, ha="left")
plots.show(
    fig,
    "Size of the first step over the rank, for three rules. Adam: alpha fixed is nearly flat, rsLoRA rises, "
    "alpha = 2r rises steeply. SGD: rsLoRA is nearly flat, alpha fixed falls, alpha = 2r rises.",
)

# %%
flat = {key: max(values) / min(values) for key, values in growth.items()}
for optimizer in ("adam", "sgd"):
    best = min(rules, key=lambda rule, o=optimizer: flat[o, rule])
    print(f"{optimizer}: flattest is {best}, within a factor of {flat[optimizer, best]:.2g}")
assert flat["adam", "alpha fixed"] < 2 and flat["sgd", "rsLoRA"] < 2 < flat["adam", "alpha = 2r"]

# %%
def rank_for_energy(singular_values: list[float], share: float) -> int:
    raise NotImplementedError  # your code here


exercises.rank_for_energy.check(rank_for_energy)

# %%
# exercises.rank_for_energy.hint()
rank_of = exercises.rank_for_energy.or_reference(rank_for_energy)

# %%
ranks_found = {}
for name, layer in looked_at.items():
    G = layer.base.weight.grad
    noise = torch.randn(G.shape, generator=torch.Generator().manual_seed(0)).sign()
    for what, matrix in (("G (SGD)", G), ("signs of G (Adam)", G.sign()), ("random signs", noise)):
        ranks_found[name, what] = rank_of(torch.linalg.svdvals(matrix).tolist(), 0.9)
        print(f"{name:9s} {what:17s} rank for 90 %: {ranks_found[name, what]:3d} of {min(G.shape)}")
for name in looked_at:
    expect(
        f"{name}: the signs of G have a much higher rank than G",
        ranks_found[name, "signs of G (Adam)"] > 4 * ranks_found[name, "G (SGD)"],
    )

# %%
guess = None  # your guess, a rank

# %%
record = experiments.published("spectrum")["cells"]
stamp = record[0]["stamp"]
print("recorded", stamp["date"], "on", stamp["processor"], "with", stamp["threads"], "threads")
arms = {}
for cell in record:
    name = cell["cell"]["optimizer"] + (" shuffled" if cell["cell"]["answers"] == "shuffled" else "")
    arms[name] = cell["metrics"]
    losses = arms[name]["losses"]
    moved = statistics.median(m["relative_size"] for m in arms[name]["matrices"])
    late = statistics.mean(losses[-8:])
    print(f"{name:15s} {len(losses)} steps, loss {losses[0]:.2f} -> {late:.2f}, ‖ΔW‖/‖W‖ {moved:.2g}")

# %%
def median_rank(arm: str, module: str | None = None) -> float:
    chosen = [m["rank_90"] for m in arms[arm]["matrices"] if module in (None, m["module"])]
    return statistics.median(chosen)


print("median rank for 90 % of the energy")
print(f"{'':10s}", *(f"{arm:>15s}" for arm in arms), f"{'random signs':>15s}")
for module in spectrum.MODULES:
    shape = next(m["shape"] for m in arms["adamw"]["matrices"] if m["module"] == module)
    signs = rank_of(lora.random_spectrum(*shape).tolist(), 0.9)
    print(f"{module:10s}", *(f"{median_rank(arm, module):15.0f}" for arm in arms), f"{signs:15d}")
predictions.compare(guess, median_rank("adamw"))

# %%
fig, axes = plots.figure(3, height=3.6, sharey=True)
styles = {"adamw": (plots.BLUE, "-"), "sgd": (plots.GREEN, "-."), "adamw shuffled": (plots.ORANGE, "--")}
for panel, module in zip(axes, ("q_proj", "v_proj", "down_proj"), strict=True):
    for arm, (colour, line) in styles.items():
        matrices = [m for m in arms[arm]["matrices"] if m["module"] == module]
        shares = zip(*(m["energy"] for m in matrices), strict=True)
        curve = [100 * statistics.median(values) for values in shares]
        panel.plot(spectrum.RANKS, curve, color=colour, linestyle=line, label=arm)
    noise = 100 * lora.energy_curve(lora.random_spectrum(*matrices[0]["shape"]))
    panel.plot(range(1, len(noise) + 1), noise, color=plots.GREY, linestyle=":", label="random signs")
    panel.set(xlabel="rank", title=module, xscale="log")
axes[0].set_ylabel("energy kept (%)")
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
fig.suptitle("What a rank keeps of an update depends on the optimizer", x=0.02, ha="left")
plots.show(
    fig,
    "Energy kept over rank, median over layers, for q, v and down projections: one curve each for AdamW, "
    "SGD, AdamW on shuffled answers, and a dotted one for random signs.",
)

# %%
adam, sgd, shuffled = median_rank("adamw"), median_rank("sgd"), median_rank("adamw shuffled")
expect("AdamW's updates are not of low rank: 90 % takes over 32", adam > 32, f"median {adam:.0f}")
expect("Biderman's 10 to 100 times a LoRA's rank is not seen in so short a run", adam < 10 * 16)
expect("SGD's, at a like length of step, have less than half that", sgd < adam / 2, f"median {sgd:.0f}")
expect(
    "answers that cannot be learned give AdamW about the same rank (within a third)",
    2 / 3 < shuffled / adam < 3 / 2,
    f"median {shuffled:.0f}",
)

# %%
guess = None  # your guess, in percent

# %%
cuts, families = arms["adamw"]["cut"], arms["adamw"]["families"]
nll = {int(k): statistics.mean(values) for k, values in cuts.items()}
gain = {k: 100 * (nll[0] - value) / (nll[0] - nll[576]) for k, value in nll.items()}
print(f"{len(families)} validation rows; NLL in nats an answer")
for k, value in nll.items():
    lost = [a - b for a, b in zip(cuts[str(k)], cuts["576"], strict=True)]
    _, low, high = evaluation.interval(lost, families)
    print(f"rank {k:3d}: NLL {value:6.2f}, above full by [{low:.2f}, {high:.2f}], gain kept {gain[k]:4.0f} %")
predictions.compare(guess, gain[16], unit="%")

# %%
fig, axes = plots.figure()
shares = zip(*(m["energy"] for m in arms["adamw"]["matrices"]), strict=True)
energy = [100 * statistics.median(values) for values in shares]
kept = {k: share for k, share in gain.items() if k}
axes.plot(list(kept), list(kept.values()), color=plots.BLUE, marker="o", label="gain in validation NLL")
axes.plot(spectrum.RANKS, energy, color=plots.ORANGE, linestyle="--", label="energy (median matrix)")
axes.set(xlabel="rank that every update is cut to", ylabel="kept (%)", xscale="log", ylim=(0, None))
axes.set_xticks(list(kept), list(kept))
axes.minorticks_off()
axes.set_title(f"Rank 16 keeps {gain[16]:.0f} % of the gain and {energy[4]:.0f} % of the energy")
axes.legend()
plots.show(
    fig,
    f"Share kept over rank: at rank 16 the gain in NLL is {gain[16]:.0f} % and the median energy "
    f"{energy[4]:.0f} %.",
)

# %%
expect("rank 16 keeps at least half of the gain", gain[16] >= 50, f"{gain[16]:.0f} %")
expect("and a larger share of the gain than of the energy", gain[16] > energy[spectrum.RANKS.index(16)])

# %%
low_rank.explore()

# %%
print("B is the down-projection and A the up-projection (guide 002): wrong.")
print(f"   A takes {A.shape[1]:,} numbers down to {A.shape[0]}, B takes these up to {B.shape[0]}.")

# %%
print('"Kaiming uniform initialization (Gaussian distribution)" (guide 002): wrong.')
print(f"   PEFT's A has the kurtosis {kurtosis(A):.2f}: uniform (1.8), not Gaussian (3).")

# %%
print("Alpha doubled is the learning rate doubled (guide 001): wrong.")
print(f"   Adam: {100 * lora.apart(doubled, claimed, 200):.2g} % apart after 200 steps;", end=" ")
print("exact is the learning rate of B doubled. SGD: 4 times, in the first step.")

# %%
print("With alpha = 2r the rank can change without the learning rate (guide 002): imprecise.")
print(
    f"   Adam's first step at rank 256 is {growth['adam', 'alpha = 2r'][-1]:.2g} times that at rank 4;",
    end=" ",
)
print(f"with alpha fixed, {growth['adam', 'alpha fixed'][-1]:.2g} times.")

# %%
print("Weight updates have a low rank (guides 001, 002, 004): imprecise.")
print(
    f"   Median rank for 90 % of the energy: AdamW {adam:.0f}, SGD {sgd:.0f}, shuffled {shuffled:.0f};",
    end=" ",
)
print(f"cut to rank 16, {gain[16]:.0f} % of the gain is kept.")

# %%
checkpoints.ask("02_lora_math")
