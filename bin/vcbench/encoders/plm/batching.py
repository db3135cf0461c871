"""Running sequences through a network in batches bounded by tokens, smaller ones when a GPU's memory is too small."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from vcbench.core.device import CudaOutOfMemoryError

Item = TypeVar("Item")
Result = TypeVar("Result")
log = logging.getLogger(__name__)


def take(lengths: Sequence[int], start: int, batch_tokens: int) -> int:
    """Return the end of the batch that begins at ``start``: padded tokens stay within the limit, at least one item."""
    longest, stop = 0, start
    while stop < len(lengths):
        longest = max(longest, lengths[stop])
        if stop > start and longest * (stop + 1 - start) > batch_tokens:
            break
        stop += 1
    return stop


def run(
    items: Sequence[Item], lengths: Sequence[int], batch_tokens: int, forward: Callable[[Sequence[Item]], Result]
) -> Iterator[tuple[Sequence[Item], Result]]:
    """Yield (batch, result of ``forward(batch)``) over consecutive items.

    When CUDA runs out of memory the batch is halved and the work goes on; :class:`CudaOutOfMemoryError` is raised when
    a single item does not fit.
    """
    import torch

    start, reported = 0, time.monotonic()
    while start < len(items):
        stop = take(lengths, start, batch_tokens)
        batch = items[start:stop]
        exhausted = False
        try:
            result = forward(batch)
        except torch.OutOfMemoryError:
            exhausted = True  # leave the handler first: its traceback keeps the tensors of the failed batch alive
        if exhausted:
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            if len(batch) == 1:
                raise CudaOutOfMemoryError(f"CUDA out of memory on a single sequence of {lengths[start]} tokens")
            batch_tokens = max(lengths[start:stop]) * (len(batch) // 2)
            log.warning("CUDA out of memory: batches of at most %d tokens from here on", batch_tokens)
            continue
        yield batch, result
        start = stop
        if time.monotonic() - reported > 10:
            reported = time.monotonic()
            log.info("%d of %d sequences", start, len(items))
