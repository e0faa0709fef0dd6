"""A CUDA device that is only pretended: tensors live on the CPU, say that they do not, and refuse to be mixed.

What passed here ran on a GPU the first time it was tried there. Speed says nothing, and neither does what a GPU rounds
otherwise.
"""

from __future__ import annotations

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

THERE = torch.device("cuda:0")
_DEVICE, _IS_CUDA = torch.Tensor.device.__get__, torch.Tensor.is_cuda.__get__
# These only look at tensors.
_FREE = {"_has_compatible_shallow_copy_type", "is_same_size"}
_MOVES = {"to": None, "cpu": "cpu", "cuda": "cuda"}


class DevicesMixedError(RuntimeError):
    """What a GPU would refuse."""


class OnDevice(torch.Tensor):
    """A tensor that pretends to be there."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        return _call(func, args, kwargs or {})


class Pretended(TorchFunctionMode):
    """`with Pretended(): tensor.to("cuda")`, and the same for networks."""

    def __enter__(self):
        self._before = torch.__future__.get_overwrite_module_params_on_conversion()
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        return super().__enter__()

    def __exit__(self, *error):
        torch.__future__.set_overwrite_module_params_on_conversion(self._before)
        return super().__exit__(*error)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        return _call(func, args, kwargs or {})


def is_there(tensor):
    return isinstance(tensor, OnDevice)


def _call(func, args, kwargs):
    with torch._C.DisableTorchFunctionSubclass(), torch._C.DisableTorchFunction():
        if func in (_DEVICE, _IS_CUDA):
            there = isinstance(args[0], OnDevice)
            return there if func == _IS_CUDA else THERE if there else func(*args)
        name = getattr(func, "__name__", "")
        if name == "__deepcopy__" and isinstance(args[0], OnDevice):
            return _copied(*args)
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        there = any(isinstance(tensor, OnDevice) for tensor in tensors)
        if name in _MOVES:
            there, args, kwargs = _moved(name, args, kwargs)
            func = torch.Tensor.to if name == "cuda" else func
        elif kwargs.get("device") is not None:
            there = _names_it(kwargs["device"])
            kwargs = {**kwargs, "device": "cpu"}
            if there and kwargs.get("generator") is not None:
                raise DevicesMixedError(f"{name}: a generator of the CPU draws on the CPU")
        elif there:
            there = _checked(name, args, tensors)
        result = func(*args, **kwargs)
        in_place = name.endswith("_") and not name.startswith("__")
        if in_place and args and result is not None and isinstance(args[0], torch.Tensor):
            return args[0]
        return _each(result, _put if there else _taken)


def _names_it(device):
    return str(device).startswith("cuda")


def _moved(name, args, kwargs):
    """Where a tensor goes, and the same call on the CPU."""
    wanted = _MOVES[name] or kwargs.get("device")
    for given in args[1:]:
        if isinstance(given, torch.Tensor):
            wanted = given.device if not isinstance(given, OnDevice) else THERE
        elif isinstance(given, str | torch.device):
            wanted = given
    there = isinstance(args[0], OnDevice) if wanted is None else _names_it(wanted)
    args = tuple("cpu" if isinstance(given, str | torch.device) else given for given in args)
    kwargs = {key: "cpu" if key == "device" and value is not None else value for key, value in kwargs.items()}
    return there, (args[0], "cpu") if name == "cuda" else args, kwargs


def _checked(name, args, tensors):
    """Refuse what a GPU refuses; whether the result is there."""
    if name in ("numpy", "__array__", "histogram"):
        raise DevicesMixedError(f"{name}: not on a GPU")
    if name == "copy_":
        return isinstance(args[0], OnDevice)
    if name in ("__getitem__", "__setitem__"):
        if isinstance(args[0], OnDevice):
            value = args[2] if name == "__setitem__" else None
            if isinstance(value, torch.Tensor) and not isinstance(value, OnDevice) and value.dim():
                raise DevicesMixedError(f"{name}: values from the CPU")
            return True
        if any(isinstance(index, OnDevice) and index.dim() for index in tree_leaves(args[1])):
            raise DevicesMixedError(f"{name}: a CPU tensor indexed by one on the GPU")
        return False
    strangers = [tuple(one.shape) for one in tensors if not isinstance(one, OnDevice) and one.dim()]
    if strangers and name not in _FREE:
        raise DevicesMixedError(f"{name}: tensors of the CPU, of shapes {strangers}, among those on the GPU")
    return True


def _copied(tensor, memo):
    if id(tensor) not in memo:
        new = tensor.detach().clone().as_subclass(OnDevice).requires_grad_(tensor.requires_grad)
        if getattr(tensor, "_is_param", False):
            new._is_param = True
        memo[id(tensor)] = new
    return memo[id(tensor)]


def _put(value):
    if not isinstance(value, torch.Tensor) or isinstance(value, OnDevice):
        return value
    if value.is_leaf and value.requires_grad:
        return value.detach().as_subclass(OnDevice).requires_grad_(True)
    return value.as_subclass(OnDevice)


def _taken(value):
    return value.as_subclass(torch.Tensor) if isinstance(value, OnDevice) else value


def _each(result, change):
    """Change every tensor of a result, which may be one of torch's own named tuples."""
    if type(result).__module__ == "torch.return_types":
        return type(result)([change(part) for part in result])
    return tree_map(change, result) if isinstance(result, torch.Tensor | tuple | list) else result
