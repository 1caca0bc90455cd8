"""A real sample from a file in place of the random inputs."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

from mmworkload.errors import FormatError, UnknownNameError
from mmworkload.files import LARGEST_BYTES, require_readable


def read_sample(path: Path, expected: Any, model: str) -> Any:
    """The tensors of ``path`` in the structure of ``expected`` (a dictionary, or a tuple taken as ``input_0``, ...).

    ``.npz`` and ``.pt`` (a dictionary of tensors) hold one array for each name. Shape and kind (floating point or not)
    must be those of the model at its settings. Raises FormatError for an unreadable or wrong file, UnknownNameError for
    a name that the model does not take.
    """
    import torch

    named = expected if isinstance(expected, dict) else {f"input_{i}": item for i, item in enumerate(expected)}
    # Numbers, and tensors inside lists and dictionaries, stay as they are.
    wanted = {name: item for name, item in named.items() if isinstance(item, torch.Tensor)}
    found = _load(path)
    for name in found:
        if name not in wanted:
            raise UnknownNameError(f"input of {model} in {path}", name, list(wanted))
    result = dict(named)
    for name, like in wanted.items():
        if name not in found:
            raise FormatError(f"{path} has no '{name}'; {model} takes {', '.join(wanted)}")
        value = found[name]
        if tuple(value.shape) != tuple(like.shape):
            raise FormatError(
                f"{path}: '{name}' has shape {list(value.shape)}, {model} takes {list(like.shape)}; change the sample,"
                " or the model by --batch and --set"
            )
        if value.is_floating_point() != like.is_floating_point() or value.is_complex() != like.is_complex():
            raise FormatError(f"{path}: '{name}' is {value.dtype}, {model} takes {like.dtype}")
        result[name] = value.to(torch.device("cpu"), like.dtype)
    return result if isinstance(expected, dict) else tuple(result.values())


def _require_small(path: Path) -> None:
    """FormatError for an archive that unpacks to more than is read, by its directory: before anything is unpacked, and
    readers take no more than the directory says."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        size = sum(item.file_size for item in archive.infolist())
    if size > LARGEST_BYTES:
        raise FormatError(f"cannot read {path}: it unpacks to {size:,} bytes, and at most {LARGEST_BYTES:,} are read")


def _load(path: Path) -> dict[str, Any]:
    import torch

    try:
        require_readable(path)
        _require_small(path)
        if path.suffix == ".npz":
            import numpy

            with numpy.load(path, allow_pickle=False) as arrays:
                return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
        if path.suffix in (".pt", ".pth"):
            data = torch.load(path, map_location="cpu", weights_only=True)
            if isinstance(data, dict) and all(isinstance(item, torch.Tensor) for item in data.values()):
                strange = [key for key in data if not isinstance(key, str)]
                if strange:
                    raise FormatError(
                        f"{path} has the key {strange[0]!r}, which is no text; save a dictionary of names and tensors,"
                        " as in torch.save({'image': image}, path)"
                    )
                return data
            raise FormatError(f"{path} does not hold a dictionary of tensors")
    except FormatError:
        raise
    except Exception as error:
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise FormatError(f"cannot read {path}: {first[:200]}") from error
    raise FormatError(f"{path}: a sample is a .npz, or a .pt with a dictionary of tensors")
