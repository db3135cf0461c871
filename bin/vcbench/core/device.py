"""CPU or CUDA: the caller's choice is never changed; `auto` takes a GPU when one is visible and says so."""

from __future__ import annotations

import logging
import os
import sys

from vcbench.core.errors import EXIT_CUDA_OUT_OF_MEMORY, InputError, VcbError

DEVICES = ("auto", "cpu", "cuda")


class CudaOutOfMemoryError(VcbError):
    """The accelerator's memory does not hold even the smallest piece of work; the engine retries elsewhere."""

    exit_code = EXIT_CUDA_OUT_OF_MEMORY
    stops_task = True


def resolve(device: str) -> str:
    """Return ``"cpu"`` or ``"cuda"``; raises :class:`InputError` for ``cuda`` when no GPU is visible."""
    if device not in DEVICES:
        raise InputError("unknown device", where="--device", found=device, expected=" or ".join(DEVICES))
    if device != "cpu":
        import torch

        visible = torch.cuda.is_available()
        if device == "auto":
            device = "cuda" if visible else "cpu"
            logging.info("device auto: %s", device)
        elif not visible:
            raise InputError(
                "told to use cuda, but no GPU is visible",
                where="--device",
                hint="use --device cpu (pipeline: --gpu none)",
            )
    return device


def set_threads(threads: int) -> None:
    """Limit the threads of torch (0 = leave them as the environment says); numpy's are set by the engine."""
    if threads < 0:
        raise InputError("must not be negative", where="--threads", found=threads)
    if threads:
        os.environ["OMP_NUM_THREADS"] = str(threads)  # read by torch when it is imported later
    if threads and "torch" in sys.modules:
        import torch

        torch.set_num_threads(threads)
