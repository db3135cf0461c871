"""Reading torch archives (``.bin``, ``.pt``) without running code in them and without keeping them in memory."""

from __future__ import annotations

import gc
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vcbench.core.errors import InputError

if TYPE_CHECKING:
    import torch

#: Bytes read through a memory map before it is opened anew, at least, and as a part of the file: pages once read stay
#: in memory as long as the map lives, but opening costs time.
MAPPED, MAPPED_PART = 8 << 20, 1 / 64


class TorchArchive:
    """The tensors of one archive, memory-mapped; archives of torch before 1.6 cannot be, they are held in memory.

    An archive is a mapping of names to tensors, or, as fair-esm writes it, holds one as ``model``; the rest is `extra`.
    Raises :class:`InputError` for a file that is damaged, cut short or holds more than tensors and plain values.
    """

    def __init__(self, path: Path, hint: str) -> None:
        self.path, self.hint = path, hint
        self.mapped = is_zip(path)
        self._tensors, self.extra = self._open()
        self._read, self._limit = 0, max(MAPPED, path.stat().st_size * MAPPED_PART)

    @property
    def tensors(self) -> dict[str, torch.Tensor]:
        """The tensors by name, in file order; look at shapes and types only."""
        return self._tensors

    def tensor(self, name: str) -> torch.Tensor:
        """Return one tensor; what was read before is dropped from memory now and then, unless it is still in use."""
        if self.mapped and self._read > self._limit:
            self._tensors = {}
            self._tensors, self._read = self._open()[0], 0
        tensor = self._tensors[name]
        self._read += tensor.nbytes
        return tensor

    def _open(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        import argparse
        import pickle

        import torch

        try:
            # a Namespace is a bag of values, it cannot run anything
            with torch.serialization.safe_globals([argparse.Namespace]):
                content = torch.load(self.path, map_location="cpu", weights_only=True, mmap=self.mapped or None)
        except pickle.UnpicklingError as error:
            reason = "it holds more than tensors, or is damaged" if self.mapped else "damaged or not a torch file"
            raise InputError(
                f"refused: {reason} (code in a weights file is never run)", where=str(self.path), hint=self.hint
            ) from error
        except MemoryError:
            raise
        except Exception as error:  # whatever a parser says to a file that others wrote
            raise InputError(
                "damaged or incomplete torch file", where=str(self.path), found=_first_line(error), hint=self.hint
            ) from error
        finally:
            gc.collect(1)  # torch.load leaves a young cycle that would keep the map after the tensors are gone
        extra: dict[str, Any] = {}
        if isinstance(content, dict) and isinstance(content.get("model"), dict):
            extra = {name: value for name, value in content.items() if name != "model"}
            content = content["model"]
        if not isinstance(content, dict) or not all(
            isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in content.items()
        ):
            raise InputError("not a plain mapping of names to tensors", where=str(self.path), hint=self.hint)
        return content, extra


def is_zip(path: Path) -> bool:
    """Return whether a torch file has the format of torch 1.6 and later."""
    with open(path, "rb") as handle:
        return handle.read(4) == b"PK\x03\x04"


def damaged_record(path: Path) -> str | None:
    """Return the name of the first record whose CRC-32 is wrong, or None; a file that is no archive has no records.

    The file itself carries these checksums, so that damage is found even when no SHA-256 is known. torch does not look
    at them. Archives written without checksums (all zero) pass.
    """
    if not is_zip(path):
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            if not any(record.CRC for record in archive.infolist()):
                return None
            return archive.testzip()
    except MemoryError:
        raise
    except Exception as error:  # as above
        return _first_line(error)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
