"""Recording a training step on the meta device: every tensor's memory as it comes and goes.

No arithmetic is done and nothing is allocated; the model, PEFT, bitsandbytes and the optimizer are the
real ones, so the order and the sizes are those of the real step.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import weakref

import torch
from bitsandbytes.backends.default.ops import _gemm_4bit_default_impl
from torch.utils._python_dispatch import TorchDispatchMode

from labsupport.allocations.streams import Block, Stream, no_sweeps
from labsupport.memory import anatomy, autocasting, stand_ins, trainer_step, workload
from labsupport.setups.setup import Setup

# (operation, its arguments' shapes): the shapes of its results. Shape arithmetic in Python is slow.
_RESULTS: dict = {}


@functools.cache
def _effect(operation) -> str:
    """ "new": returns only new tensors; "in place": changes its first argument's values; else "other"."""
    schema = operation._schema
    if torch.Tag.inplace_view in operation.tags or schema.name == "aten::set_":
        return "other"
    if any(argument.alias_info and argument.alias_info.is_write for argument in schema.arguments):
        only_first = not any(a.alias_info and a.alias_info.is_write for a in schema.arguments[1:])
        return "in place" if only_first and len(schema.returns) < 2 else "other"
    return "other" if any(part.alias_info for part in schema.returns) else "new"


def _signature(value):
    """What the shapes of a result can depend on, hashable."""
    if isinstance(value, torch.Tensor):
        return (value.shape, value.stride(), value.dtype, value.device)
    if isinstance(value, (list, tuple)):
        return tuple(map(_signature, value))
    if isinstance(value, dict):
        return tuple((name, _signature(part)) for name, part in value.items())
    return (type(value), value)


def _is_mask(indices) -> bool:
    """Whether tensor[indices] picks by a mask: how many positions stands in data that are not there."""
    return len(indices) == 1 and indices[0] is not None and indices[0].dtype == torch.bool


def _on_meta(target) -> bool:
    """Whether a tensor, or the first of a list, is on the meta device: counters of steps are not."""
    first = target[0] if isinstance(target, (list, tuple)) else target
    return first.device.type == "meta"


def _storages(value) -> set[int]:
    """The addresses of the storages in a tensor or in lists of them."""
    if isinstance(value, torch.Tensor):
        return {value.untyped_storage()._cdata}
    return set().union(*map(_storages, value)) if isinstance(value, (list, tuple)) else set()


def _shapes_of(result):
    """How to make such a result again: None if it is not all tensors on the meta device."""
    if isinstance(result, torch.Tensor):
        plain = type(result) is torch.Tensor and result.device.type == "meta"
        return (result.shape, result.stride(), result.dtype) if plain else None
    if isinstance(result, (list, tuple)):
        shapes = [_shapes_of(part) for part in result]
        return None if None in shapes else (type(result), shapes)
    return None


def _tensors_of(shapes):
    """Empty tensors on the meta device in the form that `_shapes_of` described."""
    if isinstance(shapes[0], type):
        return shapes[0](_tensors_of(part) for part in shapes[1])
    size, stride, dtype = shapes
    return torch.empty_strided(size, stride, dtype=dtype, device="meta")


def _grouped_product(operation, args, kwargs):
    """A grouped product of numbers that are not bfloat16, which a GPU takes and torch refuses on meta."""
    first, second, *others = args
    product = operation(first.to(torch.bfloat16), second.to(torch.bfloat16), *others, **kwargs)
    return product.to(first.dtype)


class Recorder(TorchDispatchMode):
    """Notes each storage when an operation first returns it, and again when the last user drops it.

    `phase` and `layer` are set from outside and say what is being worked on. Works on any device, so
    that the same step can be recorded on the meta device and on the CPU.
    """

    def __init__(self, depth: int, vocabulary: int):
        super().__init__()
        self.stream = Stream(depth)
        self.phase, self.layer, self.step, self.device = "load", None, 0, "meta"
        self.passes = 1  # micro-batches of this step so far
        self.supervised = 0  # positions that a mask of labels picks
        self.fused_head = False
        self.logits_widths = {vocabulary}
        self._vocabulary = vocabulary
        self._numbers: dict[int, int] = {}  # storage's address: block
        self._forward: set[int] = set()  # made while gradients are recorded: forward, or recomputed
        self._recording = True
        self._last: int | None = None

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        if operation is torch.ops.bitsandbytes.gemm_4bit.default and self.device == "meta":
            # The fused 4-bit product is one operation here; on a GPU with more than a few rows it makes
            # the 16-bit weight and multiplies, as this default implementation does.
            with self:
                return _gemm_4bit_default_impl(*args, **(kwargs or {}))
        if operation is torch.ops.aten.index.Tensor and self.device == "meta" and _is_mask(args[1]):
            result = args[0].new_empty((self.supervised, *args[0].shape[args[1][0].dim() :]))
        elif operation is torch.ops.aten.add.Tensor and self._sums_tied_gradients(*args):
            result = args[0]
        else:
            result = self._run(operation, args, kwargs or {})
        if isinstance(result, torch.Tensor):
            self._note_result(result, args)
        elif isinstance(result, (list, tuple)):
            first = args[0] if args and isinstance(args[0], (list, tuple)) else ()
            for index, tensor in enumerate(result):
                if isinstance(tensor, torch.Tensor):
                    # A foreach operation returns one result for each tensor of its first list.
                    self._note_result(tensor, first[index : index + 1] if len(first) == len(result) else args)
        return result

    def _sums_tied_gradients(self, one, other) -> bool:
        """Whether these are the fused head's and the embedding's gradients of one weight. Autograd adds them
        in place, but not while somebody listens to every operation."""
        tensors = isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor)
        if torch.is_grad_enabled() or self.device != "meta" or not self.fused_head or not tensors:
            return False
        return one.shape == other.shape and one.dim() == 2 and one.shape[0] == self._vocabulary

    def _run(self, operation, args, kwargs):
        """The operation's result. On the meta device, where only shapes matter, each is worked out once."""
        if self.device != "meta":
            return operation(*args, **kwargs)
        kind = _effect(operation)
        if kind == "in place" and _on_meta(args[0]):
            return args[0] if operation._schema.returns else None
        if operation is torch.ops.aten._grouped_mm.default and args[0].dtype != torch.bfloat16:
            return _grouped_product(operation, args, kwargs)
        key = (operation, _signature(args), _signature(kwargs)) if kind == "new" else None
        if key is None or _RESULTS.get(key) is None:
            result = operation(*args, **kwargs)
            # Some operations, _unsafe_view for one, hand back their input's storage without saying so.
            if key is not None and not _storages(result) & _storages(args):
                _RESULTS[key] = _shapes_of(result)
            return result
        return _tensors_of(_RESULTS[key])

    def _note_result(self, tensor: torch.Tensor, inputs) -> None:
        if tensor.device.type == "cpu" and self.device != "cpu":
            return  # a counter that lives beside the model
        if tensor.untyped_storage()._cdata in self._numbers:
            return
        layer = self.layer
        if layer is None and self.phase == "optimizer":
            layer = self._layer_of(inputs)
        is_logits = tensor.dim() > 1 and tensor.shape[-1] in self.logits_widths
        self.note_storage(tensor, layer, "logits" if is_logits else "temporaries")
        number = self._numbers.get(tensor.untyped_storage()._cdata)  # None: there is nothing in it
        if torch.is_grad_enabled() and number is not None:
            self._forward.add(number)

    def _layer_of(self, inputs) -> int | None:
        """In the optimizer a tensor belongs to the layer of the parameter it is computed from."""
        for tensor in inputs:
            if isinstance(tensor, torch.Tensor):
                number = self._numbers.get(tensor.untyped_storage()._cdata)
                self._last = None if number is None else self.stream.blocks[number].layer
                break
        return self._last

    def note_storage(self, tensor: torch.Tensor, layer: int | None, category: str) -> None:
        """Note a tensor's storage, unless it is known."""
        storage = tensor.untyped_storage()
        if storage._cdata in self._numbers or not storage.nbytes():
            return
        number = len(self.stream.blocks)
        # Micro-batches apart: in the first, without gradients, layers may make other numbers of blocks.
        span = f"{self.step} {self.phase}" + (f" {self.passes}" if self.passes > 1 else "")
        self.stream.blocks[number] = Block(storage.nbytes(), layer, span, category)
        self.stream.events.append((number, True, layer, self.phase))
        self._numbers[storage._cdata] = number
        weakref.finalize(storage, self._note_release, storage._cdata, number).atexit = False

    def _note_release(self, address: int, number: int) -> None:
        self._numbers.pop(address, None)
        if not self._recording:
            return
        block = self.stream.blocks[number]
        layer = self.layer if self.layer is not None else block.layer
        self.stream.events.append((number, False, layer, self.phase))
        kept_for_backward = number in self._forward and not torch.is_grad_enabled()
        if kept_for_backward and block.category == "temporaries":
            self.set_category(number, "activations")

    def set_category(self, number: int, category: str) -> None:
        block = self.stream.blocks[number]
        self.stream.blocks[number] = Block(block.bytes, block.layer, block.span, category)

    def set_category_of(self, tensor: torch.Tensor, category: str) -> None:
        """Set the category of a tensor that is alive; ignores one that lives elsewhere."""
        number = self._numbers.get(tensor.untyped_storage()._cdata)
        if number is not None:
            self.set_category(number, category)

    def stop(self) -> None:
        self._recording = False


def record_steps(
    setup: Setup,
    depth: int,
    device: str = "meta",
    history=(1.0, 1.0),
    built: dict | None = None,
    as_on_gpu: bool = True,
):
    """(stream, (trainable parameters inside the layers, outside)) of a setup cut to `depth` layers.

    The history is one step for each entry, a share of the row length. From the second step on the
    optimizer's states exist: that is the steady state. `built` holds models of earlier calls with the same
    config, depth and device: one that serves again is not built again, a new one is added. as_on_gpu: see
    `stand_ins.in_use`.
    """
    built = {} if built is None else built
    model_key = dataclasses.replace(
        setup, config=None, batch=1, length=1, padded=True, optimizer="adamw", supervised=1.0, accumulation=1
    )
    stand = stand_ins.in_use(setup.trainer, as_on_gpu, setup.autocasts)
    with stand if device == "meta" else contextlib.nullcontext():
        if model_key not in built:
            built[model_key] = workload.build_model(setup, depth, device)
        model = built[model_key]
        model.zero_grad()
        stream = _record(setup, model, depth, device, history)
    inside = outside = 0
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and anatomy.layer_of_name(name) is None:
            outside += parameter.numel()
        elif parameter.requires_grad:
            inside += parameter.numel()
    return stream, (inside, outside)


@no_sweeps()  # a step frees by reference counts
def _record(setup: Setup, model, depth: int, device: str, history) -> Stream:
    optimizer = workload.optimizer_for(setup, model)
    recorder = Recorder(depth, model.config.vocab_size)
    recorder.device, recorder.fused_head = device, setup.trainer == "sft"
    if recorder.fused_head:
        recorder.logits_widths.add(trainer_step.tile_width())
    hooks = [*_note_weights(recorder, model), *_watch_layers(recorder, model)]
    held = []  # the last outputs live on until the next ones replace them, as in a loop's variable
    try:
        for recorder.step, share in enumerate(history, start=1):
            _enter(recorder, "forward")
            # From the second micro-batch on all are alike: gradients are there already.
            batches = [workload.batch_for(setup, device, share) for _ in range(min(2, setup.accumulation))]
            for tensor in [tensor for batch in batches for tensor in batch.values()]:
                recorder.note_storage(tensor, None, "activations")
            recorder.supervised = setup.batch * workload.supervised_tokens(
                setup, batches[0]["labels"].shape[1]
            )
            enter = functools.partial(_enter, recorder)
            with recorder:
                workload.training_step(setup, model, batches, optimizer, held, enter)
                _name_states(recorder, optimizer)
    finally:
        recorder.stop()
        for hook in hooks:
            hook.remove()
    return recorder.stream


def _enter(recorder: Recorder, phase: str) -> None:
    if phase == "forward" and recorder.phase != "forward":
        recorder.passes = recorder.passes + 1 if recorder.phase == "backward" else 1
    recorder.phase, recorder.layer = phase, None


def _note_weights(recorder: Recorder, model) -> list:
    """Everything there is before the first step: parameters, buffers, the scales of 4-bit weights.

    Returns the hooks that name each gradient as soon as it is there.
    """
    full = not hasattr(model, "peft_config")
    hooks = []
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        category = "adapters" if tensor.requires_grad and not full else "weights"
        recorder.note_storage(tensor, anatomy.layer_of_name(name), category)
        state = getattr(tensor, "quant_state", None)
        while state is not None:  # doubly quantised scales have scales of their own
            for part in (state.absmax, state.code, state.offset):
                if part is not None:
                    recorder.note_storage(part, anatomy.layer_of_name(name), "weights")
            state = state.state2
        if tensor.requires_grad:
            hooks.append(
                tensor.register_post_accumulate_grad_hook(
                    lambda p: recorder.set_category_of(p.grad, "gradients")
                )
            )
    return hooks


def _name_states(recorder: Recorder, optimizer) -> None:
    for states in optimizer.state.values():
        for value in states.values():
            if isinstance(value, torch.Tensor):
                recorder.set_category_of(value, "optimizer")


def _watch_layers(recorder: Recorder, model) -> list:
    """Tell the recorder which layer runs, forwards and backwards. The hooks keep no tensors alive."""
    core, norm = anatomy.core(model), anatomy.last_norm(model)

    def at(layer, phase=None):
        recorder.layer, recorder.phase = layer, phase or recorder.phase

    def when_back(layer, phase, module, inputs, output):
        first = output[0] if isinstance(output, tuple) else output
        if first.requires_grad:
            first.register_hook(lambda gradient: at(layer, phase))

    embedding, head = core.get_input_embeddings(), core.get_output_embeddings()
    hooks = [
        norm.register_forward_pre_hook(lambda module, inputs: at(None)),
        norm.register_forward_hook(lambda module, inputs, output: at(None, "loss")),
        head.register_forward_pre_hook(lambda module, inputs: at(None, "loss")),
        embedding.register_forward_hook(functools.partial(when_back, None, None)),
    ]
    for index, layer in enumerate(anatomy.layers(model)):
        hooks.append(layer.register_forward_pre_hook(lambda module, inputs, index=index: at(index)))
        hooks.append(layer.register_forward_hook(functools.partial(when_back, index, "backward")))
        hooks.append(layer.register_forward_hook(lambda *_: autocasting.layer_was_computed_again()))
    return hooks
