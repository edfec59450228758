"""The built-in models and the user's own: what ``acalsim run TARGET`` can name.

The catalogue needs no torch, so that listing it is instant; a model's module is imported when it is built.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING

from acalsim_backend.errors import InputError, UnknownNameError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class BuiltIn:
    """A model with random weights. ``builder`` is ``module:class`` below this package; ``inputs`` are f32 shapes."""

    name: str
    summary: str
    builder: str
    parameters: int
    inputs: tuple[tuple[int, ...], ...]


CATALOGUE = {
    model.name: model
    for model in (
        BuiltIn(
            "matmul", "one matrix product and a bias, the tutorial's first model", "basic:MatMulModel", 136, ((8, 16),)
        ),
        BuiltIn("mlp", "linear, ReLU, linear", "basic:Mlp", 874, ((4, 16),)),
        BuiltIn(
            "attention",
            "transformer block: 4 heads, layer norm, GELU",
            "basic:TransformerBlock",
            49_984,
            ((1, 32, 64),),
        ),
        BuiltIn("resnet18", "image classifier, 18 layers", "resnet:resnet18", 11_689_512, ((1, 3, 224, 224),)),
        BuiltIn("resnet50", "image classifier, 50 layers", "resnet:resnet50", 25_557_032, ((1, 3, 224, 224),)),
    )
}


def load_target(target: str, seed: int = 0) -> tuple[torch.nn.Module, tuple[torch.Tensor, ...]]:
    """Build what a TARGET names: a built-in model or ``file.py:function``; weights and inputs follow from ``seed``.

    The function takes no argument and returns ``(model, example_inputs)``.

    Raises:
        UnknownNameError: no built-in model of that name.
        InputError: the file or the function cannot be used; says why.
    """
    file, colon, function = target.rpartition(":")
    if not colon and target.endswith(".py"):
        raise InputError(f"{target}: name the function that returns (model, example_inputs), as in {target}:make_model")
    if colon:
        return _from_file(Path(file), function, seed)
    if target not in CATALOGUE:
        raise UnknownNameError("model", target, CATALOGUE)
    return _built_in(CATALOGUE[target], seed)


def check_target(target: str) -> None:
    """Refuse a TARGET that cannot be found, before anything slow is imported."""
    file, colon, _ = target.rpartition(":")
    if colon:
        if not Path(file).is_file():
            raise InputError(f"{file}: no such file; TARGET is a built-in model or file.py:function")
    elif not target.endswith(".py") and target not in CATALOGUE:
        raise UnknownNameError("model", target, CATALOGUE)


def _built_in(entry: BuiltIn, seed: int) -> tuple[torch.nn.Module, tuple[torch.Tensor, ...]]:
    import torch

    module_name, _, builder = entry.builder.partition(":")
    build: Callable[[], torch.nn.Module] = getattr(importlib.import_module(f"{__name__}.{module_name}"), builder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build().eval()
        return model, tuple(torch.randn(shape) for shape in entry.inputs)


def _from_file(path: Path, function: str, seed: int) -> tuple[torch.nn.Module, tuple[torch.Tensor, ...]]:
    if not path.is_file():
        raise InputError(f"{path}: no such file; TARGET is a built-in model or file.py:function")
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            module = _import_file(path)
        except Exception as error:
            raise InputError(f"{path}: importing it failed: {_one_line(error)}") from error
        make = getattr(module, function, None)
        if not callable(make):
            defined = [name for name, value in vars(module).items() if isinstance(value, FunctionType)]
            raise InputError(f"{path}: {UnknownNameError('function', function, defined)}")
        try:
            result = make()
        except Exception as error:
            raise InputError(f"{path}:{function}() failed: {_one_line(error)}") from error
    match result:
        case (torch.nn.Module() as model, torch.Tensor() as single):
            return model, (single,)
        case (torch.nn.Module() as model, (*inputs,)) if all(isinstance(t, torch.Tensor) for t in inputs):
            return model, tuple(inputs)
    raise InputError(
        f"{path}:{function}() returned {_shape_of(result)}, expected (model, example_inputs): "
        "an nn.Module and a tuple of tensors"
    )


def _import_file(path: Path) -> ModuleType:
    """Import a file under a name that hides no package; its folder comes first on the path, as for a script."""
    sys.path.insert(0, str(path.resolve().parent))
    name = f"acalsim_target_{path.stem}"
    loader = importlib.machinery.SourceFileLoader(name, str(path))
    spec = importlib.util.spec_from_loader(name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    loader.exec_module(module)
    return module


def _one_line(error: Exception) -> str:
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    where = f" ({Path(frame.tb_frame.f_code.co_filename).name}:{frame.tb_lineno})" if frame is not None else ""
    return f"{type(error).__name__}: {error}{where}"


def _shape_of(value: object) -> str:
    if isinstance(value, tuple):
        return "(" + ", ".join(type(v).__name__ for v in value) + ")"
    return type(value).__name__
