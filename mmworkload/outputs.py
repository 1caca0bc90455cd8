"""Outputs: tried before the work whose result they take, and kept elsewhere when they fail after it."""

from __future__ import annotations

import mimetypes
import os
import stat
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from mmworkload.errors import FormatError, MmworkloadError, UnavailableError
from mmworkload.files import require_file_output, require_folder_output
from mmworkload.temporary import temporary_folder

TABLE = (".parquet", ".csv")
GRAPH = (".json", ".yaml", ".yml", ".csv")
HTML = (".html", ".htm")
SVG = (".svg",)

# Without the files of this machine, so that a name means the same everywhere.
_KNOWN = mimetypes.MimeTypes()
# Documents of this field that have no such name.
_OTHERS = (".parquet", ".yaml", ".yml", ".npz", ".pt", ".pt2", ".pth", ".onnx")


def require_output_file(path: str | Path, suffixes: Sequence[str]) -> None:
    """Raises FormatError for another suffix than ``suffixes``, MmworkloadError when ``path`` cannot be written.

    It is tried, and nothing is left. Capital letters in a suffix are as good as small ones; a pipe, a terminal and
    ``/dev/null`` need none where there is one format.

    UnavailableError when HTML is asked for and the packages that write it are missing.

    >>> require_output_file("table.csv", TABLE)
    """
    place = Path(path)
    require_file_output(place)
    stream = place.exists() and not place.is_file()
    one_format = suffixes in (HTML, SVG)
    if place.suffix.lower() not in suffixes and not (stream and one_format):
        names = " or ".join(", ".join(suffixes).rsplit(", ", 1))
        what = f"'{place.suffix}' is no format that is written here" if place.suffix else "it has no suffix"
        raise FormatError(f"cannot write {place}: {what}; give a file that ends in {names}.")
    if stream and not os.access(place, os.W_OK):
        raise MmworkloadError(f"cannot write {place}: you may not write to it. Choose another output.")
    if not stream:
        _try(place, place)
    if suffixes == HTML or place.suffix.lower() in HTML:
        require_report_packages("jinja2", "matplotlib")


def require_report_packages(*packages: str) -> None:
    """UnavailableError names those that are not installed."""
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise UnavailableError(
            f"the HTML report needs {' and '.join(missing)}, not installed: pip install 'mmworkload[report]'"
        )


def require_output_folder(path: str | Path, marker: str | None = None) -> None:
    """Raises MmworkloadError when a folder cannot be written at ``path``; it is tried, and nothing is left.

    With a ``marker`` the folder is replaced as a whole (:func:`mmworkload.files.folder_atomic`), otherwise files are
    added to it. The name of a document (``report.pdf``) is not taken for a folder that is yet to be made.
    """
    place = Path(path)
    if marker is not None:
        require_folder_output(place, marker)
        _try(place, place)
    else:
        _try(place / "file", place)
    document = place.suffix.lower() in _OTHERS or (place.suffix and _KNOWN.guess_type(place.name)[0])
    if document and not place.exists():
        raise MmworkloadError(
            f"cannot write {place}: '{place.suffix}' is no format that is written here; give the name of a folder."
        )


def keep(path: str | Path, write: Callable[[Path], object]) -> None:
    """Calls ``write(path)``. Where that fails (the disk is full), what it would have written goes into a new folder
    among the temporary files, and the MmworkloadError says where; when that fails too, it is the first error."""
    place = Path(path)
    try:
        write(place)
    except MmworkloadError as error:
        spare: Path | None = None
        try:
            spare = Path(tempfile.mkdtemp(prefix="mmworkload-kept-")) / place.name
            write(spare)
        except (MmworkloadError, OSError):
            if spare is not None:
                with suppress(OSError):
                    spare.parent.rmdir()
            raise error from None
        raise MmworkloadError(f"{error} The result is kept in {spare}; move it from there.") from error


def _try(file: Path, said: Path) -> None:
    """Raises MmworkloadError about ``said`` when ``file``, with the folders that it lacks, cannot be made."""
    try:
        real = Path(os.path.realpath(file))
        there = next(folder for folder in real.parents if _is_there(folder))
        with temporary_folder(there) as spare:
            trial = spare / real.relative_to(there)
            trial.parent.mkdir(parents=True, exist_ok=True)
            trial.touch()
    except OSError as error:
        raise MmworkloadError(f"cannot write {said}: {error.strerror}. Choose another output.") from error


def _is_there(folder: Path) -> bool:
    """Raises OSError for a file, and for what cannot be looked at."""
    try:
        status = folder.stat()
    except FileNotFoundError:
        return False
    if not stat.S_ISDIR(status.st_mode):
        raise NotADirectoryError(20, os.strerror(20), str(folder))
    return True
