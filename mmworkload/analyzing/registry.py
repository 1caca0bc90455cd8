"""The views by their names."""

from __future__ import annotations

from mmworkload.analyzing import across_stack, generating, multimodal
from mmworkload.analyzing.multimodal import ELSEWHERE
from mmworkload.analyzing.view import View
from mmworkload.errors import MmworkloadError, UnknownNameError

VIEWS: dict[str, View] = {view.id: view for view in (*across_stack.VIEWS, *multimodal.VIEWS, *generating.VIEWS)}


def find(name: str) -> View:
    """The view called ``name``, in either case. UnknownNameError suggests the nearest; MmworkloadError says what an
    analysis of the papers needs that no measurement has."""
    by_name = {view.id.lower(): view for view in VIEWS.values()}
    if name.lower() in by_name:
        return by_name[name.lower()]
    for item in ELSEWHERE:
        if item.id.lower() == name.lower():
            raise MmworkloadError(f"{item.id} ({item.title}) cannot be made from a measurement: it needs {item.needs}.")
    raise UnknownNameError("analysis", name.capitalize(), VIEWS)
