"""What does a token cost when GPT-2 (124 million parameters) generates, with a growing and with a static cache?

Random weights, greedy, batch 1, one thread; processor seconds a token, medians, eager PyTorch in the same run. With the
growing cache each token has a new length, which is lowered; a second sequence meets lengths that are known.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import transformers

from acalsim_backend import ACALSimBackend

PROMPT = 12


def generate(model: Callable[..., Any], cache: Any, prompt: torch.Tensor, tokens: int) -> tuple[list[float], Any]:
    """Processor seconds of each call, and the logits of each token [tokens, vocabulary]."""
    ids, position, seconds, logits = prompt, 0, [], []
    for _ in range(tokens):
        places = torch.arange(position, position + ids.shape[1])
        start = time.process_time()
        result = model(input_ids=ids, past_key_values=cache, use_cache=True, cache_position=places)
        seconds.append(time.process_time() - start)
        position += ids.shape[1]
        logits.append(result.logits[:, -1])
        ids = result.logits[:, -1:].argmax(-1)
    return seconds, torch.cat(logits)


def main() -> int:
    """Prints a row a cache; 1 if a token differs from eager's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=64)
    tokens = parser.parse_args().tokens
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = transformers.GPT2Config()
    model: Any = transformers.GPT2LMHeadModel(config).eval()  # type: ignore[no-untyped-call]
    prompt = torch.randint(config.vocab_size, (1, PROMPT))
    caches: dict[str, Callable[[], Any]] = {
        "growing": lambda: transformers.DynamicCache(config=config),
        "static": lambda: transformers.StaticCache(config=config, max_cache_len=PROMPT + tokens),
    }
    print(f"{'cache':<9}{'tokens equal':>14}{'largest error':>15}{'eager':>9}{'new':>9}{'known':>9}{'new/known':>11}"
          f"{'known/eager':>13}")  # fmt: skip
    differ = False
    for name, make in caches.items():
        torch._dynamo.reset()
        compiled = torch.compile(model, backend=ACALSimBackend(mode="simulate"))
        with torch.no_grad():
            generate(model, make(), prompt, 4)  # warm
            eager, expected = generate(model, make(), prompt, tokens)
            new, got = generate(compiled, make(), prompt, tokens)
            known, _ = generate(compiled, make(), prompt, tokens)
        equal = int((got.argmax(-1) == expected.argmax(-1)).sum())
        differ |= equal < tokens
        error = float((got - expected).abs().max() / expected.abs().max())
        first = 4  # prompt, first token, and what PyTorch compiles again with symbols
        medians = [statistics.median(seconds[first:]) for seconds in (eager, new, known)]
        print(f"{name:<9}{f'{equal} of {tokens}':>14}{error:>15.1e}" + "".join(f"{m:>9.4f}" for m in medians)
              + f"{medians[1] / medians[2]:>11.2f}{medians[2] / medians[0]:>13.2f}", flush=True)  # fmt: skip
    return int(differ)


if __name__ == "__main__":
    raise SystemExit(main())
