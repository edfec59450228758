"""Models of the transformers library as a ``config.json`` describes them: random weights, nothing is downloaded."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from acalsim_backend.errors import InputError, MissingToolError, one_line

_MOST_TOKENS, _DECODED_TOKENS, _SAMPLES = 64, 16, 16_000


class Configured(nn.Module):
    """A transformers model that takes the tensors ``names`` by position and returns the tensors of its result."""

    def __init__(self, model: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.model = model
        self.names = names

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The tensors of the model's result in its order, caches and nested results left out."""
        result = self.model(**dict(zip(self.names, inputs, strict=True)))
        return tuple(value for value in result.to_tuple() if isinstance(value, torch.Tensor))


def load(path: Path, seed: int) -> tuple[Configured, tuple[torch.Tensor, ...]]:
    """The model in evaluation mode and inputs for it, both by ``seed``, in the element type that the file names.

    Inputs are batches of one: 64 tokens (16 for a decoder), an image, 16,000 samples or a spectrogram of the size that
    the configuration gives.

    Raises:
        InputError: no such file, or one that transformers cannot build a model from; says why.
        MissingToolError: transformers is not installed.
    """
    try:
        transformers: Any = importlib.import_module("transformers")
    except ImportError as error:
        raise MissingToolError(
            f"hf:{path} needs the transformers library, which cannot be imported ({error}): "
            "pip install 'acalsim_backend[zoo]'"
        ) from error
    config, name = _read(path, transformers)
    model_class = getattr(transformers, name, None)
    if model_class is None:
        raise InputError(f"{path}: architectures names {name}, which transformers {transformers.__version__} has not")
    with torch.random.fork_rng(devices=[]), _default_dtype(getattr(config, "dtype", None)):
        torch.manual_seed(seed)
        try:
            model = model_class(config).eval()
        except Exception as error:
            raise InputError(f"{path}: {name} cannot be built: {type(error).__name__}: {one_line(error)}") from error
        names = _input_names(model, config)
        inputs = tuple(_example(name, config, path) for name in names)
    return Configured(model, names), inputs


def _read(path: Path, transformers: Any) -> tuple[Any, str]:
    """The configuration, and the class that it names first."""
    file = path / "config.json" if path.is_dir() else path
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}; hf: takes a config.json, or the folder that one is in") from None
    except ValueError as error:
        raise InputError(f"{file}: not JSON: {error}") from None
    if not isinstance(values, dict) or not isinstance(values.get("model_type"), str) or not values.get("architectures"):
        raise InputError(f"{file}: expected the keys model_type and architectures of a transformers configuration")
    kind = values.pop("model_type")
    try:
        config = transformers.AutoConfig.for_model(kind, **values)
    except Exception as error:
        raise InputError(f"{file}: {type(error).__name__}: {one_line(error)}") from error
    if getattr(config, "use_cache", False):
        config.use_cache = False
    return config, str(values["architectures"][0])


@contextlib.contextmanager
def _default_dtype(dtype: Any) -> Iterator[None]:
    before = torch.get_default_dtype()
    if isinstance(dtype, torch.dtype):
        torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _input_names(model: Any, config: Any) -> tuple[str, ...]:
    accepted = inspect.signature(model.forward).parameters
    wanted = [model.main_input_name]
    if hasattr(config, "text_config") and hasattr(config, "vision_config"):
        wanted += ["input_ids", "pixel_values"]
    if getattr(config, "is_encoder_decoder", False):
        wanted.append("decoder_input_ids")
    return tuple(name for name in dict.fromkeys(wanted) if name in accepted)


def _example(name: str, config: Any, path: Path) -> torch.Tensor:
    text, vision = getattr(config, "text_config", config), getattr(config, "vision_config", config)
    if name in ("input_ids", "decoder_input_ids"):
        most = _DECODED_TOKENS if name == "decoder_input_ids" else _MOST_TOKENS
        length = min(most, getattr(text, "max_position_embeddings", None) or most)
        return torch.randint(text.vocab_size, (1, length))
    if name == "pixel_values":
        size = vision.image_size
        height, width = size if isinstance(size, (list, tuple)) else (size, size)
        return torch.randn(1, getattr(vision, "num_channels", 3), height, width)
    if name == "input_features":
        return torch.randn(1, config.num_mel_bins, 2 * config.max_source_positions)
    if name == "input_values":
        return torch.randn(1, _SAMPLES)
    raise InputError(
        f"{path}: the model takes {name}, for which no example is known; write a function that returns the model "
        "and its inputs, and name it as file.py:function"
    )
