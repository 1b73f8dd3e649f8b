"""The load of `mizzen bench`: many clients in one process, and what they measure."""

from __future__ import annotations

import asyncio
import gc
import time
from array import array
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Final

from mizzen import JSON, Client, ClientSocket, ConnectRefused, MizzenError

AT_ONCE: Final = 100
"""Clients that connect at the same time, so that the server's queue of connections holds them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do. Times are in seconds; `ramp_up` is connections and `rate` messages per second, all clients together."""

    url: str
    arguments: Mapping[str, Any]
    namespace: str | None
    connections: int
    ramp_up: float | None
    event: str
    path: str | None
    listen: str | None
    size: int
    in_flight: int
    rate: float | None
    duration: float
    timeout: float


class Results:
    """What was measured: `latencies` in seconds, `errors` and `refusals` by what they say, `cpu` in seconds of this process."""

    def __init__(self) -> None:
        self.connected: int = 0
        self.refusals: Counter[str] = Counter()
        self.lost: int = 0
        self.messages: int = 0
        self.in_time: int = 0
        self.latencies: array[float] = array("d")
        self.errors: Counter[str] = Counter()
        self.connecting: float = 0.0
        self.elapsed: float = 0.0
        self.cpu: float = 0.0

    def percentiles(self) -> dict[str, float]:
        """Give p50, p90, p99 and the largest of the latencies, in milliseconds; nothing without any."""
        if not self.latencies:
            return {}
        ordered = sorted(self.latencies)
        last = len(ordered) - 1
        found = {f"p{percent}": ordered[round(last * percent / 100)] for percent in (50, 90, 99)}
        return {name: round(value * 1000, 3) for name, value in {**found, "max": ordered[-1]}.items()}

    def as_json(self) -> dict[str, JSON]:
        """Give all of it, as --json prints it."""
        rate = self.in_time / self.elapsed if self.elapsed else 0.0
        return {
            "connected": self.connected,
            "failed": sum(self.refusals.values()),
            "connect_seconds": round(self.connecting, 3),
            "seconds": round(self.elapsed, 3),
            "messages": self.messages,
            "rate": round(rate, 1),
            "latency_ms": self.percentiles(),
            "disconnected": self.lost,
            "errors": dict(self.errors + self.refusals),
            "client_cpu_percent": round(100 * self.cpu / self.elapsed, 1) if self.elapsed else 0.0,
            "client_cpu_us_per_message": round(1e6 * self.cpu / self.messages, 2) if self.messages else None,
        }


def kind_of(error: Exception) -> str:
    """Give what errors of one kind have in common, without what differs each time."""
    text = str(error)
    if isinstance(error, (TimeoutError, ConnectRefused)) or len(text) <= 80:
        return f"{type(error).__name__}: {text}"
    return f"{type(error).__name__}: {text[:79]}…"


class Load:
    """Connects clients and has them work; `progress` is told how far it is: the phase, and how much of it is done (0 to 1)."""

    def __init__(self, plan: Plan, progress: Callable[[str, float], None]) -> None:
        self._plan = plan
        self._progress = progress
        self.results: Results = Results()
        self._clients: list[Client] = []
        self._sockets: list[ClientSocket] = []
        self._ending = False

    async def run(self) -> Results:
        """Do it all: connect, work, disconnect."""
        try:
            await self._connect()
            if self._sockets:
                gc.collect()
                gc.freeze()  # the clients stay; no collection need look through all of them
                await self._measure()
        finally:
            self._ending = True
            self._progress("closing", 0.0)
            for start in range(0, len(self._clients), AT_ONCE):
                await asyncio.gather(*(client.close() for client in self._clients[start : start + AT_ONCE]), return_exceptions=True)
            gc.unfreeze()
        return self.results

    # Connecting

    async def _connect(self) -> None:
        plan = self._plan
        began = time.perf_counter()
        at_once = asyncio.Semaphore(AT_ONCE)
        async with asyncio.TaskGroup() as group:
            for number in range(plan.connections):
                if plan.ramp_up is not None:
                    await asyncio.sleep(began + number / plan.ramp_up - time.perf_counter())
                await at_once.acquire()
                group.create_task(self._open(at_once))
        self.results.connecting = time.perf_counter() - began

    async def _open(self, at_once: asyncio.Semaphore) -> None:
        plan, results = self._plan, self.results
        client = Client(plan.url, **plan.arguments, reconnection=False, connect_timeout=plan.timeout, close_grace=0.0)
        socket = client if plan.namespace is None else client.of(plan.namespace, auth=plan.arguments["auth"])
        if plan.listen is not None:
            socket.on(plan.listen, self._came)
        try:
            await socket.connect()
        except MizzenError as error:
            results.refusals[kind_of(error)] += 1
        else:
            results.connected += 1
            socket.on("disconnect", self._gone)
            self._clients.append(client)
            self._sockets.append(socket)
        finally:
            at_once.release()
        self._progress("connecting", (results.connected + sum(results.refusals.values())) / plan.connections)

    async def _came(self, *args: JSON) -> None:
        if not self._ending:
            self.results.messages += 1

    async def _gone(self, reason: str, details: str | None) -> None:
        if not self._ending:
            self.results.lost += 1
            self.results.errors[f"disconnected: {reason}"] += 1

    # Measuring

    async def _measure(self) -> None:
        plan, results = self._plan, self.results
        results.messages = 0
        cpu, began = time.process_time(), time.perf_counter()
        end = began + plan.duration
        ticking = asyncio.create_task(self._tick(began))
        try:
            if plan.listen is not None:
                await asyncio.sleep(plan.duration)
                results.in_time = results.messages
            else:
                async with asyncio.TaskGroup() as group:
                    workers = len(self._sockets) * plan.in_flight
                    for number in range(workers):
                        group.create_task(self._work(self._sockets[number % len(self._sockets)], number, workers, began, end))
            results.elapsed = plan.duration
        finally:
            ticking.cancel()
            results.elapsed = results.elapsed or time.perf_counter() - began
            results.cpu = time.process_time() - cpu

    async def _tick(self, began: float) -> None:
        while True:
            await asyncio.sleep(0.1)
            self._progress("measuring", min((time.perf_counter() - began) / self._plan.duration, 1.0))

    def _ask(self, socket: ClientSocket) -> Callable[[], Coroutine[object, object, str | None]]:
        """Give what one message is: a function that waits for its answer and says what is wrong with that, if anything is."""
        plan = self._plan
        path = plan.path
        if path is not None:

            async def get() -> str | None:
                response = await socket.get(path, timeout=plan.timeout)
                return f"{response.status_code} {response.reason_phrase}" if response.is_error else None

            return get
        payload = "x" * plan.size

        async def call() -> str | None:
            await socket.call(plan.event, payload, timeout=plan.timeout)
            return None

        return call

    async def _work(self, socket: ClientSocket, number: int, workers: int, began: float, end: float) -> None:
        """Send one message after the other; with a rate each at its time, from which its latency counts even if it leaves late."""
        ask, results, rate = self._ask(socket), self.results, self._plan.rate
        now = time.perf_counter
        turn = number
        while True:
            start = now()
            if rate is not None:
                due = began + turn / rate
                turn += workers
                if due >= end:
                    return
                if due > start:
                    await asyncio.sleep(due - start)
                start = due
            if now() >= end or not socket.connected:
                return
            try:
                wrong = await ask()
            except MizzenError as error:
                results.errors[kind_of(error)] += 1
                continue
            answered = now()
            if wrong is not None:
                results.errors[wrong] += 1
            results.messages += 1
            results.in_time += answered <= end
            results.latencies.append(answered - start)
