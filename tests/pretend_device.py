"""A device that is not there: tensors say `cuda:0` or `mps:0` while their data stays on the CPU.

    with PretendDevice("cuda") as card:
        proxy = Proxy.from_folder(folder)    # device="auto" finds the card
        ...
    card.syncs, card.launches

Under it a call raises where torch would refuse it: tensors of two devices in one call, a device
tensor turned into NumPy's, float64 on MPS, a generator of the CPU on a device. As in torch, a
number (a CPU tensor without dimensions) may go with a tensor of any device, and a CPU tensor may
index a device tensor. It also counts

    launches   calls of torch functions that compute something on the device. A call that only
               returns metadata or views of its arguments (shape, transpose, a slice) counts for
               nothing, nor does an allocation without contents. A call of a composed function, such
               as `layer_norm` or `scaled_dot_product_attention`, counts once.
    syncs      calls in which the host waits for the device: `cpu`, `item`, `tolist`, `bool`, `int`,
               `float`, results whose size depends on the data (`nonzero`, a mask as an index), and
               copies from the host's pageable memory, such as `torch.tensor(list, device="cuda")`.
               A copy from or to pinned memory with `non_blocking` is none.

It finds mixed devices and counts calls. It says nothing of kernels, memory or time.

It is a mode of torch functions, which hold for one thread; threads that start under it enter it,
those that ran before do not.
"""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import pairwise
from types import ModuleType
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_VARLEN = "torch.nn.attention.varlen"
_MARK, _PINNED = "_pretend_device", "_pretend_pinned"
_CPU = torch.device("cpu")

_READS_TO_HOST = {
    *("item", "tolist", "__bool__", "__int__", "__float__", "__index__", "__complex__"),
    *("__contains__", "is_nonzero", "equal", "allclose", "__format__", "__repr__"),
}
_SIZE_FROM_DATA = {
    *("nonzero", "argwhere", "masked_select", "unique", "unique_consecutive", "bincount"),
    *("_unique2", "unique_dim", "eigh", "svd", "cholesky", "lstsq", "solve"),
}
_CROSSES_DEVICES = {
    *("_has_compatible_shallow_copy_type", "result_type", "can_cast", "is_same_size"),
}
_NO_NUMBERS = {"cat", "concat", "stack", "hstack", "vstack", "matmul", "bmm", "mm", "gather"}
_ALLOCATES = {"empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided"}
_FROM_HOST = {"tensor", "as_tensor", "asarray", "new_tensor", "scalar_tensor"}


_IN_PLACE = {f"__i{name}__" for name in ("add", "sub", "mul", "truediv", "and", "or", "xor")}


_entered: list[PretendDevice] = []


class MixedDevices(RuntimeError):
    """A call that torch would refuse for the devices of its tensors."""


class PretendDevice(TorchFunctionMode):
    """The mode, and the machine around it.

    Args:
        kind: `cuda` or `mps`.
        count: how many cards there are.
        capability: of the cards; (8, 0) is Ampere, (7, 5) is a T4. bf16 needs Ampere, and is
            emulated below, as torch does.
        varlen: a stand-in for torch's kernel of packed sequences, see `varlen_stand_in`; None for a
            torch without it.
    """

    def __init__(
        self,
        kind: str,
        count: int = 1,
        capability: tuple[int, int] = (7, 5),
        varlen: Callable[..., Any] | None = None,
    ) -> None:
        super().__init__()
        self.kind, self.count, self.capability, self.varlen = kind, count, capability, varlen
        self.current = 0
        self.syncs = self.launches = 0
        self.sync_calls: Counter[str] = Counter()
        self.launch_calls: Counter[str] = Counter()
        self._machine: ExitStack | None = None

    def reset(self) -> None:
        """Sets the counts to zero."""
        self.syncs = self.launches = 0
        self.sync_calls.clear()
        self.launch_calls.clear()

    # ------------------------------------------------------------------ the machine

    def __enter__(self) -> PretendDevice:
        _entered.append(self)
        if self._machine is None:
            self._machine = self._pretend_machine()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        _entered.remove(self)
        if self._machine is not None:
            self._machine.close()
            self._machine = None

    def _pretend_machine(self) -> ExitStack:
        from tamis.probes.attention import batched

        stack, is_cuda = ExitStack(), self.kind == "cuda"
        has_bf16 = self.capability[0] >= 8

        def is_bf16_supported(including_emulation: bool = True) -> bool:
            return has_bf16 or including_emulation

        answers = {
            "is_available": lambda: is_cuda,
            "device_count": lambda: self.count if is_cuda else 0,
            "current_device": lambda: self.current,
            "set_device": self._set_device,
            "get_device_capability": lambda device=None: self.capability,
            "get_device_name": lambda device=None: "a card that is not there",
            "is_bf16_supported": is_bf16_supported,
            "mem_get_info": lambda device=None: (8 << 30, 16 << 30),
            "synchronize": lambda device=None: self._sync("synchronize"),
        }
        for name, answer in answers.items():
            stack.enter_context(patch.object(torch.cuda, name, answer))
        stack.enter_context(patch.object(torch.backends.mps, "is_available", lambda: not is_cuda))
        module = None  # which import refuses
        if self.varlen is not None:
            module = ModuleType(_VARLEN)
            module.varlen_attn = self.varlen  # type: ignore[attr-defined]
        stack.enter_context(patch.dict(sys.modules, {_VARLEN: module}))
        batched.varlen_kernel.cache_clear()
        stack.callback(batched.varlen_kernel.cache_clear)
        make_subclass, run, mode = torch.Tensor._make_subclass, threading.Thread.run, self

        def marked_subclass(cls: Any, data: Tensor, *rest: Any, **options: Any) -> Tensor:
            made: Tensor = make_subclass(cls, data, *rest, **options)
            return _mark(made, _place(data))

        def run_in_mode(thread: threading.Thread) -> None:
            with _Again(mode):
                run(thread)

        stack.enter_context(
            patch.object(torch.Tensor, "_make_subclass", staticmethod(marked_subclass))
        )
        stack.enter_context(patch.object(threading.Thread, "run", run_in_mode))
        return stack

    def _set_device(self, device: Any) -> None:
        self.current = device if isinstance(device, int) else torch.device(device).index or 0

    # ------------------------------------------------------------------ calls

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", str(func))
        name = name.rpartition(".")[2] if name.endswith((".default", ".out")) else name
        if name == "__get__":
            return self._get(func, args)
        if (special := getattr(self, f"_call_{name.strip('_')}", None)) is not None:
            return special(func, args, kwargs)
        target = None
        if "device" in kwargs or kwargs.get("pin_memory"):
            kwargs, target = self._take_device(func, kwargs)
        given = list(_tensors((args, kwargs)))
        if target is None or given:
            found = self._common_device(name, given)
            target = target or found
        if self._is_ours(target) and kwargs.get("generator") is not None:
            raise MixedDevices(
                f"Expected a '{target}' device type for generator but found 'cpu' ({name})"
            )
        result = self._run(func, args, kwargs)
        pinned = kwargs.pop(_PINNED, False)
        if kwargs.get("out") is not None and self._is_ours(target):
            self._launch(name)  # what it returns is no new memory, and yet computed
        return self._finish(name, result, given, target, pinned)

    def _run(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        return func(*args, **{key: value for key, value in kwargs.items() if key != _PINNED})

    def _finish(
        self, name: str, result: Any, given: list[Tensor], target: Any, pinned: bool = False
    ) -> Any:
        """Marks the results, and counts the call if it was the device's."""
        if isinstance(result, Iterator) and target is not None:
            result = iter([self._finish(name, part, given, target) for part in result])
        made = list(_tensors(result))
        if pinned:
            for tensor in made:
                tensor.__dict__[_PINNED] = True
        if not self._is_ours(target):
            return result
        for tensor in made:
            if tensor.dtype in (torch.float64, torch.complex128) and target.type == "mps":
                raise TypeError(
                    "Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't "
                    f"support float64. Please use float32 instead. ({name})"
                )
            _mark(tensor, target)
        if name in _READS_TO_HOST or (name in _SIZE_FROM_DATA):
            self._sync(name)
        elif name in _FROM_HOST:
            self._sync(name)
        if name == "repeat_interleave" and len(given) > 1:
            self._sync(name)
        self._count_launch(name, made, given)
        return result

    def _count_launch(self, name: str, made: list[Tensor], given: list[Tensor]) -> None:
        if name in _ALLOCATES or name in _CROSSES_DEVICES or not made:
            return
        is_in_place = (name.endswith("_") and not name.endswith("__")) or (
            name.startswith("__i")
            and name.endswith("__")
            and name not in ("__iter__", "__invert__")
        )
        memory = {_memory(tensor) for tensor in given}
        if is_in_place or any(_memory(tensor) not in memory for tensor in made):
            self.launches += 1
            self.launch_calls[name] += 1

    def _sync(self, name: str) -> None:
        self.syncs += 1
        self.sync_calls[name] += 1

    def _is_ours(self, device: Any) -> bool:
        return device is not None and device.type == self.kind

    def _common_device(self, name: str, given: list[Tensor]) -> torch.device | None:
        """The device of a call's tensors.

        Raises:
            MixedDevices: they have several.
        """
        places = {_place(tensor) for tensor in given}
        ours = {place for place in places if self._is_ours(place)}
        if not ours or name in _CROSSES_DEVICES:
            return next(iter(ours or places), None)
        others = [
            tensor
            for tensor in given
            if _place(tensor).type == "cpu" and (tensor.dim() or name in _NO_NUMBERS)
        ]
        in_place = name.endswith("_") and not name.endswith("__")
        if len(ours) > 1 or others or (in_place and not self._is_ours(_place(given[0]))):
            named = " and ".join(sorted({str(place) for place in places}))
            raise MixedDevices(
                f"Expected all tensors to be on the same device, but found {named} ({name})"
            )
        return ours.pop()

    def _take_device(self, func: Any, kwargs: dict[str, Any]) -> tuple[dict[str, Any], Any]:
        """The keywords of a factory without its device, which is the second."""
        kwargs = dict(kwargs)
        if kwargs.pop("pin_memory", False):
            kwargs[_PINNED] = True
        device = self._device_by_name(kwargs.get("device"))
        if self._is_ours(device):
            kwargs["device"] = _CPU
        return kwargs, device

    def _device_by_name(self, device: Any) -> torch.device | None:
        """A device by any name; with its number, where it is ours."""
        if device is None:
            return None
        if isinstance(device, int):
            device = torch.device(self.kind, device)
        device = torch.device(device)
        if device.type == self.kind and device.index is None:
            device = torch.device(self.kind, self.current)
        if device.type == self.kind and device.index >= self.count:
            raise RuntimeError("CUDA error: invalid device ordinal")
        return device

    # ------------------------------------------------------------------ calls with own rules

    def _get(self, func: Any, args: Any) -> Any:
        """Reads a property: those that say where a tensor is, and others."""
        tensor, attribute = args[0], getattr(getattr(func, "__self__", None), "__name__", "")
        place = _place(tensor)
        if attribute == "device":
            return place
        if attribute in ("is_cuda", "is_mps", "is_cpu"):
            return place.type == attribute.removeprefix("is_")
        result = func(*args)
        for made in _tensors(result):
            if self._is_ours(place):
                _mark(made, place)
        return result

    def _call_to(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        tensor, rest = args[0], [*args[1:]]
        device = self._device_by_name(kwargs.pop("device", None))
        for n, given in enumerate(rest):
            if isinstance(given, torch.device | str):
                device, rest[n] = self._device_by_name(given), None
            elif isinstance(given, int) and not isinstance(given, bool):
                device, rest[n] = self._device_by_name(given), None
            elif isinstance(given, Tensor):
                device, rest[n] = _place(given), given.dtype
        other = kwargs.pop("other", None)
        if other is not None:
            device, kwargs["dtype"] = _place(other), other.dtype
        dtype = kwargs.pop("dtype", None)
        dtype = next((given for given in rest if isinstance(given, torch.dtype)), dtype)
        flags = [given for given in rest if isinstance(given, bool)]
        non_blocking = kwargs.pop("non_blocking", flags[0] if flags else False)
        copy = kwargs.pop("copy", flags[1] if len(flags) > 1 else False)
        return self._move(func, tensor, device, dtype, non_blocking, copy, kwargs)

    def _move(
        self,
        func: Any,
        tensor: Tensor,
        device: torch.device | None,
        dtype: torch.dtype | None = None,
        non_blocking: bool = False,
        copy: bool = False,
        kwargs: dict[str, Any] | None = None,
    ) -> Tensor:
        """A tensor on a device, in a dtype; the same where it is that already."""
        before = _place(tensor)
        device, dtype = device or before, dtype or tensor.dtype
        if device.type not in ("cpu", self.kind):
            if device.type == "meta":
                return tensor.to(device, dtype)
            raise AssertionError(f"there is no {device} on this machine")
        self._refuse_float64(device, dtype if dtype.is_floating_point else tensor.dtype)
        self._refuse_float64(device, dtype)
        moves = device != before
        if not moves and dtype == tensor.dtype and not copy:
            return tensor
        moved = tensor.to(dtype, copy=True, **(kwargs or {}))
        if self._is_ours(before) and dtype != tensor.dtype:
            self._launch("to")
        if moves:
            was_pinned = tensor.__dict__.get(_PINNED, False)
            if not non_blocking or not (was_pinned or device.type == "cpu"):
                self._sync(f"copy {before.type} to {device.type}")
        elif self._is_ours(before) and dtype == tensor.dtype:
            self._launch("copy")
        return _mark(moved, device)

    def _launch(self, name: str) -> None:
        self.launches += 1
        self.launch_calls[name] += 1

    def _refuse_float64(self, device: torch.device, dtype: torch.dtype) -> None:
        if device.type == "mps" and dtype in (torch.float64, torch.complex128):
            raise TypeError(
                "Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support "
                "float64. Please use float32 instead."
            )

    def _call_cpu(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        return self._move(func, args[0], _CPU)

    def _call_cuda(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        device = args[1] if len(args) > 1 else kwargs.get("device")
        return self._move(func, args[0], self._device_by_name("cuda" if device is None else device))

    def _call_mps(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        return self._move(func, args[0], self._device_by_name("mps"))

    def _call_type_as(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        return self._move(func, args[0], _place(args[1]), args[1].dtype)

    def _call_pin_memory(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        tensor = args[0]
        if self._is_ours(_place(tensor)):
            raise RuntimeError("cannot pin 'torch.cuda.Tensor': only dense CPU tensors")
        pinned = tensor.clone()
        pinned.__dict__[_PINNED] = True
        return pinned

    def _call_is_pinned(self, func: Any, args: Any, kwargs: dict[str, Any]) -> bool:
        return bool(args[0].__dict__.get(_PINNED, False))

    def _call_get_device(self, func: Any, args: Any, kwargs: dict[str, Any]) -> int:
        place = _place(args[0])
        return -1 if place.type == "cpu" else place.index

    def _call_copy(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """`copy_`, which may cross devices."""
        target, source = args[0], args[1] if len(args) > 1 else kwargs["src"]
        non_blocking = kwargs.get("non_blocking", len(args) > 2 and args[2])
        result = func(*args, **kwargs)
        self._count_copy(target, source, non_blocking)
        return result

    def _count_copy(self, target: Tensor, source: Any, non_blocking: bool = False) -> None:
        if not isinstance(source, Tensor):
            if self._is_ours(_place(target)):
                self._launch("fill_")
            return
        to, of = _place(target), _place(source)
        if to == of or (self._is_ours(to) and not source.dim()):
            if self._is_ours(to):
                self._launch("copy_")
            return
        pinned = source.__dict__.get(_PINNED) or target.__dict__.get(_PINNED)
        if not (non_blocking and pinned):
            self._sync(f"copy {of.type} to {to.type}")

    def _call_numpy(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        if (place := _place(args[0])).type != "cpu":
            raise TypeError(
                f"can't convert {place} device type tensor to numpy. Use Tensor.cpu() to copy the "
                "tensor to host memory first."
            )
        return func(*args, **kwargs)

    _call_array = _call_dlpack = _call_numpy

    def _call_getitem(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        tensor, index = args
        self._check_index("__getitem__", tensor, index)
        place = _place(tensor)
        result = func(*args)
        if self._is_ours(place):
            self._count_index("__getitem__", index)
            _mark(result, place)
            self._count_launch("__getitem__", [result], [tensor])
        return result

    def _call_setitem(self, func: Any, args: Any, kwargs: dict[str, Any]) -> None:
        tensor, index, value = args
        self._check_index("__setitem__", tensor, index)
        place = _place(tensor)
        func(*args)
        by_tensor = any(True for _ in _tensors(index))
        if not by_tensor:
            self._count_copy(tensor, value)
            return
        if isinstance(value, Tensor) and value.dim() and _place(value) != place:
            raise MixedDevices(
                "Expected all tensors to be on the same device, but found "
                f"{place} and {_place(value)} (index_put_)"
            )
        if self._is_ours(place):
            if isinstance(value, Tensor):  # a number goes by masked_fill_
                self._count_index("__setitem__", index)
            self._launch("index_put_")

    def _check_index(self, name: str, tensor: Tensor, index: Any) -> None:
        place = _place(tensor)
        for part in _tensors(index):
            if _place(part).type != "cpu" and _place(part) != place:
                raise MixedDevices(
                    "indices should be either on cpu or on the same device as the indexed tensor "
                    f"({place}), and one is on {_place(part)} ({name})"
                )

    def _count_index(self, name: str, index: Any) -> None:
        """An index on the CPU is copied, a mask is counted, a number on the device is read."""
        for part in _tensors(index):
            if part.dtype in (torch.bool, torch.uint8) and part.dim():
                self._sync("index by mask")
            elif _place(part).type == "cpu" and part.dim():
                self._sync("index from the host")
            elif self._is_ours(_place(part)) and not part.dim():
                self._sync("index by a number on the device")
        parts = index if isinstance(index, tuple) else (index,)
        if any(isinstance(part, list) and part for part in parts):
            self._sync("index from the host")

    def _call_tensor(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """`torch.tensor` and its kin: numbers of the host, or of a tensor."""
        kwargs, device = self._take_device(func, kwargs)
        data = args[0] if args else kwargs.get("data")
        inside = list(_tensors(data))
        for part in inside:
            if self._is_ours(_place(part)):
                self._sync("tensor of a tensor")
        if func is not torch.tensor and isinstance(data, Tensor):  # as_tensor keeps its place
            device = device or _place(data)
            if device == _place(data):
                return _mark(self._run(func, args, kwargs), device)
        result = self._run(func, args, kwargs)
        if kwargs.get(_PINNED):
            result.__dict__[_PINNED] = True
        if not self._is_ours(device):
            return result
        assert device is not None
        self._refuse_float64(device, result.dtype)
        self._sync("tensor from the host")
        if any(_memory(result) == _memory(part) for part in inside):
            result = result.clone()
        return _mark(result, device)

    _call_as_tensor = _call_asarray = _call_tensor

    def _call_new_tensor(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        kwargs, device = self._take_device(func, kwargs)
        device = device or _place(args[0])
        result = self._run(func, args, kwargs)
        if self._is_ours(device):
            self._refuse_float64(device, result.dtype)
            self._sync("tensor from the host")
        return _mark(result, device)

    def _call_iter(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        place = _place(args[0])
        return iter([_mark(part, place) for part in func(*args)])

    def _call_where(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        given = list(_tensors((args, kwargs)))
        target = self._common_device("where", given)
        result = func(*args, **kwargs)
        if len(args) == 1 and self._is_ours(target):
            self._sync("nonzero")
        return self._finish("where", result, given, target)

    def _call_set(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """`x.data = y` and `x.set_(y)`: x is then where y is."""
        result = func(*args, **kwargs)
        attribute = getattr(getattr(func, "__self__", None), "__name__", "data")
        if attribute == "data" and len(args) > 1 and isinstance(args[1], Tensor):
            _mark(args[0], _place(args[1]))
        return result

    def _call_deepcopy(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        return _mark(func(*args, **kwargs), _place(args[0]))


class _Again(TorchFunctionMode):
    """The same mode in another thread."""

    def __init__(self, mode: PretendDevice) -> None:
        super().__init__()
        self._mode = mode

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return self._mode.__torch_function__(func, types, args, kwargs)


def _place(tensor: Tensor) -> torch.device:
    """Where a tensor says it is."""
    with torch._C.DisableTorchFunction():
        real: torch.device = tensor.device
        return real if real.type == "meta" else tensor.__dict__.get(_MARK, real)


def _mark(tensor: Tensor, device: torch.device) -> Tensor:
    if device.type == "cpu":
        tensor.__dict__.pop(_MARK, None)
    else:
        tensor.__dict__[_MARK] = device
    return tensor


def _memory(tensor: Tensor) -> int:
    with torch._C.DisableTorchFunction():
        return tensor.untyped_storage().data_ptr() or id(tensor)


def _tensors(value: Any) -> Iterator[Tensor]:
    """The tensors in nested sequences and mappings."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _tensors(part)
    elif isinstance(value, dict):
        for part in value.values():
            yield from _tensors(part)


# ---------------------------------------------------------------------- torch's kernel


def varlen_stand_in(version: str) -> Callable[..., Tensor]:
    """What `torch.nn.attention.varlen.varlen_attn` computes, the plain way, for a version of torch.

    Args:
        version: `2.10`, `2.11` or `2.12`; each has the signature of that version, and refuses
            what its kernel does.
    """

    def varlen_attn_2_10(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        cu_seq_q: Tensor,
        cu_seq_k: Tensor,
        max_q: int,
        max_k: int,
        is_causal: bool = False,
        return_aux: Any = None,
    ) -> Tensor:
        window = (-1, 0) if is_causal else (-1, -1)
        return _by_sequence(
            query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, None, window, False
        )

    def varlen_attn_2_11(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        cu_seq_q: Tensor,
        cu_seq_k: Tensor,
        max_q: int,
        max_k: int,
        *,
        return_aux: Any = None,
        scale: float | None = None,
        window_size: tuple[int, int] = (-1, -1),
    ) -> Tensor:
        return _by_sequence(
            query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, scale, window_size, False
        )

    def varlen_attn_2_12(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        cu_seq_q: Tensor,
        cu_seq_k: Tensor | None,
        max_q: int,
        max_k: int,
        *,
        return_aux: Any = None,
        scale: float | None = None,
        window_size: tuple[int, int] = (-1, -1),
        enable_gqa: bool = False,
        seqused_k: Tensor | None = None,
        block_table: Tensor | None = None,
        num_splits: int | None = None,
    ) -> Tensor:
        assert cu_seq_k is not None
        return _by_sequence(
            query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, scale, window_size, enable_gqa
        )

    kernels = {"2.10": varlen_attn_2_10, "2.11": varlen_attn_2_11, "2.12": varlen_attn_2_12}
    return kernels[version]


def _by_sequence(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seq_q: Tensor,
    cu_seq_k: Tensor,
    max_q: int,
    max_k: int,
    scale: float | None,
    window_size: tuple[int, int],
    enable_gqa: bool,
) -> Tensor:
    """Attention of `query [Tq, H, d]` to keys and values `[Tk, Hkv, d]`, aligned at the end.

    The counts of a card's calls are those of one call, whatever is computed here.
    """
    places = {_place(part) for part in (query, key, value, cu_seq_q, cu_seq_k)}
    assert len(places) == 1, f"the kernel got tensors on {places}"
    assert cu_seq_q.dtype == cu_seq_k.dtype == torch.int32
    assert query.dtype in (torch.float16, torch.bfloat16), "the kernel takes no fp32"
    assert query.is_contiguous()
    if not enable_gqa and query.shape[1] != key.shape[1]:
        raise RuntimeError("the numbers of heads of query and key differ, and there is no GQA")
    place = places.pop()
    with torch._C.DisableTorchFunction():
        out = torch.empty_like(query)
        starts, ends = cu_seq_q.tolist(), cu_seq_k.tolist()
        assert max_q == max(b - a for a, b in pairwise(starts))
        assert max_k == max(b - a for a, b in pairwise(ends))
        shared = query.shape[1] // key.shape[1]
        scale = query.shape[-1] ** -0.5 if scale is None else scale
        for n in range(len(starts) - 1):
            q = query[starts[n] : starts[n + 1]].float().transpose(0, 1)
            k, v = (
                part[ends[n] : ends[n + 1]].float().transpose(0, 1).repeat_interleave(shared, 0)
                for part in (key, value)
            )
            rows, columns = q.shape[1], k.shape[1]
            back = torch.arange(columns - rows, columns)[:, None] - torch.arange(columns)
            left, right = window_size
            seen = torch.ones(rows, columns, dtype=torch.bool)
            seen &= (back <= left) if left >= 0 else seen
            seen &= (back >= -right) if right >= 0 else seen
            logits = (q @ k.transpose(1, 2) * scale).masked_fill(~seen, float("-inf"))
            out[starts[n] : starts[n + 1]] = (logits.softmax(-1) @ v).transpose(0, 1).to(out.dtype)
    for card in _entered:
        card._launch("varlen_attn")
    return _mark(out, place)
