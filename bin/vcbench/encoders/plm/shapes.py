"""Networks without memory and without initial values, to be filled from files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def shapes_only() -> Iterator[None]:
    """Make modules on the meta device and leave out their random initialisation.

    On the meta device torch "computes" initial values in Python code that first imports its compiler and sympy, which
    takes longer than loading a small network.
    """
    import torch
    from torch.overrides import TorchFunctionMode

    class WithoutValues(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            kwargs = kwargs or {}
            if getattr(func, "__module__", None) == torch.nn.init.__name__:
                return args[0] if args else kwargs["tensor"]
            return func(*args, **kwargs)

    with torch.device("meta"), WithoutValues():
        yield
