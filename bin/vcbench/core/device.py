"""CPU or CUDA: the choice is the caller's and is never changed silently."""

from __future__ import annotations

from vcbench.core.errors import EXIT_CUDA_OUT_OF_MEMORY, InputError, VcbError

DEVICES = ("cpu", "cuda")


class CudaOutOfMemoryError(VcbError):
    """The accelerator's memory does not hold even the smallest piece of work; the engine retries elsewhere."""

    exit_code = EXIT_CUDA_OUT_OF_MEMORY
    stops_task = True


def resolve(device: str) -> str:
    """Return ``device`` after checking that it exists; :class:`InputError` for ``cuda`` without a visible GPU."""
    if device not in DEVICES:
        raise InputError("unknown device", where="--device", found=device, expected=" or ".join(DEVICES))
    if device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise InputError(
                "told to use cuda, but no GPU is visible",
                where="--device",
                hint="use --device cpu (pipeline: --gpu none)",
            )
    return device
