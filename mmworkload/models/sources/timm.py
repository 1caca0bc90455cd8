"""``timm:NAME``: any model of timm, from its configuration."""

from __future__ import annotations

from mmworkload.errors import UnavailableError
from mmworkload.models.model import Model, Request


def find(builder: str, request: Request) -> Model:
    raise UnavailableError("timm")
