"""``hf:TYPE``, ``hf:CONFIG`` and ``hf:TYPE#CLASS``: any model of transformers, from its configuration, random weights.

The inputs follow from the signature of the class's ``forward`` and from the configuration. Nothing is downloaded.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from mmworkload.errors import ModelError, UnavailableError, UnknownNameError
from mmworkload.models.family import full_name
from mmworkload.models.hub import HubError, closed
from mmworkload.models.model import Model, Request

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
        from mmworkload.models.sources.transformers.configuration import quiet, read_configuration
        from mmworkload.models.sources.transformers.defaults import complete
        from mmworkload.models.sources.transformers.sheet import Sheet
    except (ImportError, RuntimeError) as error:
        raise UnavailableError(f"transformers cannot be imported ({error}): pip install 'mmworkload[trace]'") from error
    text, _, asked = rest.partition("#")
    with quiet():
        whole, in_file, is_file = read_configuration(text, request.name)
        notes = () if is_file else complete(whole)
        kind, configuration = choose(whole, asked, in_file, request.name)
        sheet = Sheet(kind, copy.deepcopy(configuration), request.batch or 1, request.name, request.settings)
        try:
            with closed(request.name, whole.to_dict()):
                _write(sheet)
        except ModelError as error:
            if is_file or isinstance(error, HubError):
                raise
            raise ModelError(
                f"{error}. The default configuration of {whole.model_type} may not fit together: give the path of a"
                " config.json"
            ) from error
    notes = (*notes, *_check(sheet, chosen=not (asked or in_file)))

    def make(device: str) -> tuple[torch.nn.Module, Any]:
        import torch

        with quiet(), closed(request.name, whole.to_dict()):
            module = kind(copy.deepcopy(sheet.configuration))
        for part in module.modules():
            # A constant that is made at its first use, one entry after the other, is no part of the forward pass.
            with torch.device("cpu"):
                getattr(getattr(part, "vocabulary_mapping", None), "img2bpe_mapping_tensor", None)
        return module, {name: argument.make() for name, argument in sheet.arguments.items()}

    return Model(
        full_name(request.name, sheet.parameters, sheet.settings),
        kind.__name__,
        sheet.batch,
        request.dtype,
        make,
        tuple(argument.spec for argument in sheet.arguments.values()),
        own_rules=request.stages,
        sample=request.inputs,
        notes=notes,
        parameters=sheet.parameters,
        settings=sheet.settings,
    )


def _write(sheet: Sheet) -> None:
    """Everything that the class takes, in the order of its ``forward``."""
    from mmworkload.models.sources.transformers.audio import audio
    from mmworkload.models.sources.transformers.images import images
    from mmworkload.models.sources.transformers.room import room
    from mmworkload.models.sources.transformers.special import along_text, beside_text
    from mmworkload.models.sources.transformers.text import decoder, text

    for write in (images, audio, beside_text, room, text, decoder, along_text):
        write(sheet)
    order = list(sheet.signature)
    sheet.arguments = dict(sorted(sheet.arguments.items(), key=lambda item: order.index(item[0])))


def _check(sheet: Sheet, chosen: bool) -> tuple[str, ...]:
    """What the user leaves out, in notes. ModelError for a class that cannot be called, or not with what is written;
    UnknownNameError for a size that it does not have. ``chosen`` says that nobody named the class."""
    from mmworkload.models.sources.transformers.classes import runnable
    from mmworkload.models.sources.transformers.modalities import left_out

    if not sheet.signature:
        parts = ", ".join(runnable(sheet.configuration, sheet.kind))
        raise sheet.fail(
            f"{sheet.kind.__name__} has no forward pass of its own. Name one of its parts after '#': {parts}"
        )
    missing = [item for item in sheet.signature if sheet.requires(item) and item not in sheet.arguments]
    if missing or not sheet.arguments:
        raise sheet.fail(
            f"no rule makes {', '.join(missing) or 'any argument'} of {sheet.kind.__name__}.forward. Write a function"
            " that returns the model and its inputs, and name it as path/file.py:function"
        )
    notes = left_out(sheet, chosen)
    for unknown in sheet.given.keys() - sheet.parameters.keys():
        raise UnknownNameError(f"parameter of {sheet.name}", unknown, sheet.parameters)
    return notes
