"""`mizzen run app:io`: uvicorn, and a shutdown that closes sockets before connections."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import gc
import logging
import os
import socket
import sys
from typing import Final

import click
import uvicorn
import uvicorn.config
from uvicorn.importer import ImportFromStringError, import_from_string

from mizzen import Server

logger: Final = logging.getLogger("mizzen.cli")

NATIVE = "mizzen.transports.native:WebSocketProtocol"
GARBAGE_THRESHOLD = 10_000
"""Objects that are made before the youngest are looked through for garbage; CPython's 700 or 2,000 is for programs that make few."""

LOG_LEVELS = ("critical", "error", "warning", "info", "debug", "trace")


class UvicornServer(uvicorn.Server):
    """uvicorn, closing every Mizzen server of the process before it closes their connections.

    uvicorn's own shutdown ends connections first and the lifespan last, so that no server could say goodbye.
    """

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        # What was loaded until now stays; a collection need not look at it again, and needs not come after every few hundred messages.
        gc.collect()
        gc.freeze()
        gc.set_threshold(GARBAGE_THRESHOLD, *gc.get_threshold()[1:])

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for listener in self.servers:
            listener.close()
        for each in sockets or []:
            each.close()
        results = await asyncio.gather(*[server.close() for server in Server.running()], return_exceptions=True)
        for failure in results:
            if failure is not None:
                logger.error("a server could not be closed: %s", failure, exc_info=failure)
        await super().shutdown(sockets)


@click.command()
@click.argument("app")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="Port to listen on; 0 picks a free one.")
@click.option("--log-level", default="info", show_default=True, type=click.Choice(LOG_LEVELS), help="How much the log tells.")
def run(app: str, host: str, port: int, log_level: str) -> None:
    """Serve APP, given as module:attribute, such as app:io.

    Stop it with Ctrl-C: running handlers finish, sockets get the reason 'server shutting down', and clients come back by themselves when it
    is up again.
    """
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    if ":" not in app:
        raise click.BadParameter(f"{app!r} is not of the form module:attribute; did you mean {app}:io?", param_hint="APP")
    try:
        import_from_string(app)
    except ImportFromStringError as error:
        raise click.BadParameter(str(error), param_hint="APP") from error
    log_config = copy.deepcopy(uvicorn.config.LOGGING_CONFIG)
    log_config["loggers"]["mizzen"] = {"handlers": ["default"], "level": log_level.upper(), "propagate": False}
    config = uvicorn.Config(app, host=host, port=port, ws=NATIVE, log_level=log_level, log_config=log_config)
    server = UvicornServer(config)
    with contextlib.suppress(KeyboardInterrupt):
        server.run()
    if not server.started:
        sys.exit(3)
