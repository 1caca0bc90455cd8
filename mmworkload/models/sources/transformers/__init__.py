"""``hf:TYPE``, ``hf:CONFIG`` and ``hf:TYPE#CLASS``: any model of transformers, from its configuration, random weights.

The inputs follow from the signature of the class's ``forward`` and from the configuration. Nothing is downloaded.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from mmworkload.errors import ModelError, UnavailableError
from mmworkload.models.family import settle
from mmworkload.models.model import Model, Request
from mmworkload.models.sources.settings import full_name

if TYPE_CHECKING:
    import torch

    from mmworkload.models.sources.transformers.sheet import Sheet


def find(rest: str, request: Request) -> Model:
    """The model of transformers behind ``rest``: a model type, or a path, and perhaps a class after ``#``.

    Raises UnknownNameError, MmworkloadError for an impossible size, ModelError where inputs cannot be made, FormatError
    for a file that is no configuration, and UnavailableError without transformers.
    """
    try:
        from mmworkload.models.sources.transformers.classes import choose
        from mmworkload.models.sources.transformers.configuration import read_configuration
        from mmworkload.models.sources.transformers.defaults import complete
    except (ImportError, RuntimeError) as error:
        raise UnavailableError(f"transformers cannot be imported ({error}): pip install 'mmworkload[trace]'") from error
    text, _, asked = rest.partition("#")
    whole, in_file, is_file = read_configuration(text, request.name)
    kind, configuration = choose(whole, asked, in_file, request.name)
    notes = () if is_file else complete(whole)
    batch = request.batch or 1
    declared = _write(kind, configuration, batch, request.name, {})
    settings = settle(declared.parameters, request.settings, request.name)
    sheet = declared
    if request.settings:
        sheet = _write(kind, configuration, batch, request.name, settings)
        # A size may leave less room for another one.
        settle(sheet.parameters, settings, request.name)

    def make(device: str) -> tuple[torch.nn.Module, Any]:
        module = kind(copy.deepcopy(sheet.configuration))
        return module, {name: argument.make() for name, argument in sheet.arguments.items()}

    return Model(
        full_name(request.name, declared.parameters, settings),
        kind.__name__,
        batch,
        request.dtype,
        make,
        tuple(argument.spec for argument in sheet.arguments.values()),
        request.stages,
        sample=request.inputs,
        notes=notes,
        parameters=sheet.parameters,
        settings=settings,
    )


def _write(kind: type, configuration: Any, batch: int, name: str, given: Any) -> Sheet:
    """The call of ``kind`` with everything that it takes; ModelError names an argument that nothing here can make."""
    from mmworkload.models.sources.transformers.audio import audio
    from mmworkload.models.sources.transformers.classes import runnable
    from mmworkload.models.sources.transformers.images import images
    from mmworkload.models.sources.transformers.room import room
    from mmworkload.models.sources.transformers.sheet import Sheet
    from mmworkload.models.sources.transformers.special import along_text, beside_text
    from mmworkload.models.sources.transformers.text import decoder, text

    sheet = Sheet(kind, copy.deepcopy(configuration), batch, name, given)
    if not sheet.signature:
        raise ModelError(
            f"{name}: {kind.__name__} has no forward pass of its own. Name one of its parts after '#': "
            + ", ".join(runnable(configuration, kind))
        )
    for write in (images, audio, beside_text, room, text, decoder, along_text):
        write(sheet)
    missing = [item for item in sheet.signature if sheet.requires(item) and item not in sheet.arguments]
    if missing or not sheet.arguments:
        raise ModelError(
            f"{name}: no rule makes {', '.join(missing) or 'any argument'} of {kind.__name__}.forward. Write a function"
            " that returns the model and its inputs, and name it as path/file.py:function"
        )
    order = list(sheet.signature)
    sheet.arguments = dict(sorted(sheet.arguments.items(), key=lambda item: order.index(item[0])))
    return sheet
