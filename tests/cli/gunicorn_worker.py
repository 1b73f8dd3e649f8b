"""The worker class that gunicorn needs to serve natively, as the documentation has it."""

from __future__ import annotations

from typing import Any

from uvicorn_worker import UvicornWorker


class NativeWorker(UvicornWorker):
    """uvicorn with Mizzen's WebSocket class."""

    CONFIG_KWARGS: dict[str, Any] = {**UvicornWorker.CONFIG_KWARGS, "ws": "mizzen.transports.native:WebSocketProtocol"}
