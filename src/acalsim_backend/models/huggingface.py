"""Models of the transformers library, built from configurations: random weights, nothing is downloaded."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from acalsim_backend.errors import MissingToolError


@dataclass(frozen=True)
class Architecture:
    """One model class of transformers.

    ``settings`` are what differs from the configuration's defaults; ``arguments`` name the model's inputs in our
    order; ``outputs`` name the fields of its result that are returned; ``options`` are further arguments of a call.
    """

    model: str
    config: str
    arguments: tuple[str, ...]
    outputs: tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)


_NO_CACHE = {"use_cache": False}
_LLAMA_87M = {
    "hidden_size": 768,
    "intermediate_size": 2048,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "num_key_value_heads": 4,
}
_LLAMA_1B = {  # of TinyLlama 1.1B
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "num_hidden_layers": 22,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
}

ARCHITECTURES = {
    "bert_base": Architecture(
        "BertModel", "BertConfig", ("input_ids", "attention_mask"), ("last_hidden_state", "pooler_output")
    ),
    "distilbert": Architecture(
        "DistilBertModel", "DistilBertConfig", ("input_ids", "attention_mask"), ("last_hidden_state",)
    ),
    "gpt2": Architecture("GPT2LMHeadModel", "GPT2Config", ("input_ids",), ("logits",), options=_NO_CACHE),
    "llama": Architecture("LlamaForCausalLM", "LlamaConfig", ("input_ids",), ("logits",), _LLAMA_87M, _NO_CACHE),
    "llama_1b": Architecture("LlamaForCausalLM", "LlamaConfig", ("input_ids",), ("logits",), _LLAMA_1B, _NO_CACHE),
    "qwen2": Architecture(
        "Qwen2ForCausalLM",
        "Qwen2Config",
        ("input_ids",),
        ("logits",),
        {
            "hidden_size": 896,
            "intermediate_size": 4864,
            "num_hidden_layers": 4,
            "num_attention_heads": 14,
            "num_key_value_heads": 2,
            "tie_word_embeddings": True,
        },
        _NO_CACHE,
    ),
    "mixtral": Architecture(
        "MixtralForCausalLM",
        "MixtralConfig",
        ("input_ids",),
        ("logits",),
        {
            "vocab_size": 1024,
            "hidden_size": 256,
            "intermediate_size": 512,
            "num_hidden_layers": 2,
            "num_attention_heads": 8,
            "num_key_value_heads": 4,
        },
        _NO_CACHE,
    ),
    "t5_small": Architecture(
        "T5ForConditionalGeneration",
        "T5Config",
        ("input_ids", "decoder_input_ids"),
        ("logits", "encoder_last_hidden_state"),
        options=_NO_CACHE,
    ),
    "whisper_tiny": Architecture(
        "WhisperForConditionalGeneration",
        "WhisperConfig",
        ("input_features", "decoder_input_ids"),
        ("logits",),
        {"encoder_ffn_dim": 1536, "decoder_ffn_dim": 1536, "encoder_attention_heads": 6, "decoder_attention_heads": 6},
        _NO_CACHE,
    ),
    "clip": Architecture(
        "CLIPModel", "CLIPConfig", ("input_ids", "pixel_values"), ("logits_per_image", "text_embeds", "image_embeds")
    ),
    "sam_encoder": Architecture(
        "SamVisionModel",
        "SamVisionConfig",
        ("pixel_values",),
        ("last_hidden_state",),
        {
            "image_size": 512,
            "hidden_size": 384,
            "num_hidden_layers": 4,
            "num_attention_heads": 6,
            "global_attn_indexes": [1, 3],
            "initializer_range": 0.02,
        },
    ),
    "mamba_hf": Architecture(
        "MambaForCausalLM",
        "MambaConfig",
        ("input_ids",),
        ("logits",),
        {"vocab_size": 2048, "hidden_size": 256, "num_hidden_layers": 2},
        _NO_CACHE,
    ),
}


class Positional(nn.Module):
    """A transformers model that takes tensors by position and returns a tensor, or a tuple where there are several."""

    def __init__(self, model: nn.Module, architecture: Architecture) -> None:
        super().__init__()
        self.model = model
        self.architecture = architecture

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """Inputs and outputs as the architecture names them."""
        named = dict(zip(self.architecture.arguments, inputs, strict=True))
        result = self.model(**named, **self.architecture.options)
        outputs = tuple(getattr(result, name) for name in self.architecture.outputs)
        return outputs[0] if len(outputs) == 1 else outputs


def build(architecture: str, **changes: Any) -> Positional:
    """The model of an architecture in ``ARCHITECTURES``; ``changes`` go into its configuration.

    Raises:
        MissingToolError: transformers is not installed.
    """
    try:
        transformers = importlib.import_module("transformers")
    except ImportError as error:
        raise MissingToolError(
            f"{architecture} is a model of the transformers library, which cannot be imported ({error}): "
            "pip install 'acalsim_backend[zoo]'"
        ) from error
    chosen = ARCHITECTURES[architecture]
    config = getattr(transformers, chosen.config)(**{**chosen.settings, **changes})
    return Positional(getattr(transformers, chosen.model)(config), chosen)
