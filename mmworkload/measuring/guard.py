"""Turns what a device or a user's forward pass raises into one clear error."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from mmworkload.errors import FOREIGN, MmworkloadError, ModelError, kind_and_text

if TYPE_CHECKING:
    from mmworkload.models import Model


@contextlib.contextmanager
def guarded(model: Model, device: str, doing: str) -> Iterator[None]:
    """Within it, running out of memory is a MmworkloadError that says what to do, and any other failure a ModelError.

    ``doing`` completes "failed while ...".
    """
    from mmworkload.tracing.program import user_frame

    try:
        yield
    except FOREIGN as error:
        if out_of_memory(error):
            raise MmworkloadError(
                f"{model.name}: out of memory on {device} while {doing}, at batch {model.batch} in {model.dtype}. Give"
                " a smaller --batch or a narrower --dtype."
            ) from error
        if isinstance(error, MmworkloadError):
            raise
        place = user_frame(error)
        raise ModelError(
            f"{model.name}: failed on {device} while {doing}: {kind_and_text(error)}" + (f" ({place})" if place else "")
        ) from error


def out_of_memory(error: BaseException | None) -> bool:
    """Whether ``error``, or an error behind it, is a failed allocation on a GPU or on the CPU."""
    import torch

    while error is not None:
        # The CPU's allocator raises a plain RuntimeError.
        if isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "DefaultCPUAllocator" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False
