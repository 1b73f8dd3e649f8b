"""uvicorn with a shutdown that lets Mizzen servers say goodbye, alone or as one of several workers."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import logging
import os
import socket
from typing import Any, Final

import uvicorn
from uvicorn.supervisors import multiprocess

from mizzen import Server

logger: Final = logging.getLogger("mizzen.cli")

START_FAILED: Final = 3
"""uvicorn's exit code of a process that could not start."""

GARBAGE_THRESHOLD = 10_000
"""Objects that are made before the youngest are looked through for garbage; CPython's 700 or 2,000 is for programs that make few."""


LARGE_BLOCK = 1 << 20
"""Bytes: more than uvloop asks for to read from a TLS connection, which are 256 KiB each time, of which a message leaves little."""


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
        # glibc maps and unmaps blocks of 128 KiB and more each time, until one that is larger was given back (mallopt(3), "dynamic mmap
        # threshold"): a system call or two, and page faults, for each message that comes by TLS.
        bytes(LARGE_BLOCK)
        if self.config.workers > 1:
            for server in Server.running():
                if "polling" in server.options.transports:
                    logger.warning(
                        "%s is served by polling as well, from %d workers: it needs a load balancer that keeps each client with one worker",
                        server.options.path,
                        self.config.workers,
                    )

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
        if self.config.uds and sockets is None:
            # uvicorn ends by raising the signal again, so that nothing that follows is sure to run.
            with contextlib.suppress(FileNotFoundError):
                os.remove(self.config.uds)


class Worker(multiprocess.Process):
    """A worker of uvicorn that runs our server, from the version on in which a worker makes its server itself."""

    @property
    def server(self) -> uvicorn.Server:
        server: uvicorn.Server | None = getattr(self, "_server", None)
        if server is None:
            server = self._server = UvicornServer(self.config)
        return server


class Workers:
    """uvicorn's supervisor of several processes."""

    def __init__(self, config: uvicorn.Config, server: UvicornServer, listener: socket.socket) -> None:
        more: dict[str, Any] = {}
        if "target" in inspect.signature(multiprocess.Multiprocess).parameters:
            more["target"] = server.run
        else:
            # The supervisor takes no other class of workers than the one of this name.
            multiprocess.__dict__["Process"] = Worker
        self._supervisor = multiprocess.Multiprocess(config, sockets=[listener], **more)

    def run(self) -> int:
        """Run until a signal ends it; give the exit code, which is not 0 if a worker could not start."""
        self._supervisor.run()
        codes = [getattr(process, "exitcode", 0) for process in self._supervisor.processes]
        return START_FAILED if START_FAILED in codes else 0
