"""No downloads: while a model is built and traced, requests to a hub are refused, in that scope and thread only.

A request is refused where a library sends it (so that the error knows the address), and where Python opens a
connection, which covers whatever sends in another way. Both are put back when the last scope ends; other threads pass
through meanwhile. No environment variable is read or written.
"""

from __future__ import annotations

import ipaddress
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from mmworkload.errors import ModelError

# What huggingface_hub sends with, by version.
SENDERS = (("httpx2", "Client"), ("httpx", "Client"), ("requests", "Session"))
ADVICE = "Nothing is downloaded while a model is built and traced"


# What huggingface_hub raises by itself where the caller has told it to be offline.
OFFLINE = ("LocalEntryNotFoundError", "OfflineModeIsEnabled")


class HubError(ModelError, FileNotFoundError):
    """A model that asks for a file on a hub. Libraries take it for a file that is not there, and go on if they can."""


_closed: ContextVar[bool] = ContextVar("closed", default=False)


@dataclass
class _Gate:
    """The attributes that are replaced while any scope is open, with what was there."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    scopes: int = 0
    replaced: list[tuple[Any, str, Any, Any]] = field(default_factory=list)

    def enter(self) -> None:
        with self.lock:
            self.scopes += 1
            if self.scopes > 1:
                return
            self._replace(socket, "getaddrinfo", lambda args: args[0])
            self._replace(socket.socket, "connect", lambda args: args[1])
            for module, name in SENDERS:
                if module in sys.modules:
                    self._replace(getattr(sys.modules[module], name), "send", lambda args: str(args[1].url))

    def leave(self) -> None:
        with self.lock:
            self.scopes -= 1
            if self.scopes:
                return
            for owner, name, before, ours in reversed(self.replaced):
                # What somebody else has put over it meanwhile is theirs to take away.
                if vars(owner).get(name) is ours:
                    if before is None:
                        delattr(owner, name)
                    else:
                        setattr(owner, name, before)
            self.replaced.clear()

    def _replace(self, owner: Any, name: str, address: Callable[[tuple[Any, ...]], Any]) -> None:
        original = getattr(owner, name)

        def refusing(*args: Any, **kwargs: Any) -> Any:
            if _closed.get() and not _is_local(asked := address(args)):
                raise HubError(str(asked[0] if isinstance(asked, tuple) else asked))
            return original(*args, **kwargs)

        # A method that the class inherits is not its own afterwards either.
        self.replaced.append((owner, name, vars(owner).get(name), refusing))
        setattr(owner, name, refusing)


_gate = _Gate()


@contextmanager
def closed(name: str, configuration: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Within it, this thread gets a :class:`HubError` for every request to another machine.

    ``name`` is the model's; an entry of ``configuration`` that asks for the file is named. An error that comes of a
    refusal leaves the scope as one HubError, whatever libraries have made of it.
    """
    token = _closed.set(True)
    _gate.enter()
    try:
        yield
    except Exception as error:
        refusal = _refusal(error)
        if refusal is None or (refusal is error and ADVICE in str(error)):
            raise
        if ADVICE in str(refusal):
            # An inner scope has said it, and a library has put it into other words.
            raise HubError(str(refusal)) from error
        entry = next(_asking(configuration or {}, str(refusal)), "the model")
        raise HubError(
            f"{name}: {entry} asks for {refusal}. {ADVICE}: write what is there into the configuration, or build the"
            " model in a function of yours, named as path/file.py:function"
        ) from error
    finally:
        _gate.leave()
        _closed.reset(token)


def refuse_kernels(name: str, configuration: Mapping[str, Any]) -> None:
    """HubError for an attention implementation that is a repository of a hub, at any depth of a configuration."""
    for path, value in _texts(configuration):
        if "attn_implementation" in path and "/" in value:
            raise HubError(
                f"{name}: {path}='{value}' asks for a kernel on a hub. {ADVICE}: take eager or sdpa, which come with"
                " transformers"
            )


def _refusal(error: BaseException) -> HubError | None:
    """The refused request behind an error, or what huggingface_hub itself refuses when it is told to be offline."""
    seen: list[BaseException] = []
    item: BaseException | None = error
    while item is not None and item not in seen:
        seen.append(item)
        item = item.__cause__ or item.__context__
    ours = [item for item in seen if isinstance(item, HubError)]
    said = [item for item in ours if ADVICE in str(item)]
    offline = [HubError("a file on a hub") for item in seen if type(item).__name__ in OFFLINE]
    return next(iter([*said, *reversed(ours), *offline]), None)


def _asking(configuration: Mapping[str, Any], address: str) -> Iterator[str]:
    """The entries whose value is a repository in the address, as ``backbone='someone/repo'``."""
    for path, value in _texts(configuration):
        repository = value.rpartition(":")[2].partition("@")[0]
        if "/" in repository and repository in address:
            yield f"{path}='{value}'"


def _texts(item: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every text inside lists and mappings with the keys that lead to it."""
    if isinstance(item, str):
        yield path, item
    elif isinstance(item, Mapping):
        for key, value in item.items():
            yield from _texts(value, f"{path}.{key}" if path else str(key))
    elif isinstance(item, list):
        for value in item:
            yield from _texts(value, path)


def _is_local(address: Any) -> bool:
    """Whether a host, the (host, port, ...) or path of a socket, or a web address is on this machine."""
    if isinstance(address, tuple):
        address = address[0]
    host = urlsplit(address).hostname if isinstance(address, str) and "://" in address else address
    if not isinstance(host, str) or host in ("", "localhost") or host.startswith(("/", "\0")):
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False
