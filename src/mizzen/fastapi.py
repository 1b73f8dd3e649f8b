"""For FastAPI: the socket that a request came by, as a dependency."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypeAlias

from fastapi import Depends
from fastapi.requests import HTTPConnection

from mizzen import Socket, socket_of


async def current_socket(connection: HTTPConnection) -> Socket | None:
    """Give the socket that a request came by, or None when it came over HTTP."""
    return socket_of(connection)


if TYPE_CHECKING:
    # In quotes, because pyright cannot resolve the import cycle of the server's annotations for a union that it meets here first.
    CurrentSocket: TypeAlias = Annotated["Socket | None", Depends(current_socket)]
else:
    CurrentSocket = Annotated[Socket | None, Depends(current_socket)]
"""The annotation of an endpoint's parameter: the socket that the request came by, or None when it came over HTTP."""
