"""`mizzen run app:io`: uvicorn, and a shutdown that closes sockets before connections."""

from __future__ import annotations

import contextlib
import copy
import os
import sys
from typing import Any, Final

import click
import uvicorn
import uvicorn.config
from uvicorn.importer import ImportFromStringError, import_from_string
from uvicorn.supervisors import ChangeReload

from mizzen.cli.serving import START_FAILED, UvicornServer, Workers
from mizzen.options import TRANSPORTS_VARIABLE

NATIVE = "mizzen.transports.native:WebSocketProtocol"
LOG_LEVELS = ("critical", "error", "warning", "info", "debug", "trace")
TRANSPORTS: Final = {"websocket": "websocket", "polling": "polling", "both": "polling,websocket"}

FILE = click.Path(exists=True, dir_okay=False)
FOLDER = click.Path(exists=True, file_okay=False)


@click.command(context_settings={"max_content_width": 100})
@click.argument("app")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 is every one.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="Port to listen on; 0 picks a free one.")
@click.option("--uds", metavar="PATH", help="Listen on this Unix socket instead.")
@click.option("--reload", is_flag=True, help="Start again whenever a Python file changes; for development.")
@click.option("--reload-dir", "reload_dirs", multiple=True, type=FOLDER, help="Folder to watch; repeatable. [default: the current one]")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1), help="Processes; more than one: see above.")
@click.option(
    "--transports", type=click.Choice(list(TRANSPORTS)), help="What to offer clients. [default: both; websocket with several workers]"
)
@click.option("--ssl-keyfile", metavar="FILE", type=FILE, help="Private key, for HTTPS.")
@click.option("--ssl-certfile", metavar="FILE", type=FILE, help="Certificate, for HTTPS.")
@click.option("--ssl-keyfile-password", metavar="TEXT", help="Password of the private key.")
@click.option(
    "--proxy-headers/--no-proxy-headers",
    default=True,
    show_default=True,
    help="Take scheme and address of the client from trusted proxies.",
)
@click.option("--forwarded-allow-ips", metavar="LIST", help="Proxies to trust, by commas; '*' is all. [default: 127.0.0.1,::1]")
@click.option("--root-path", default="", metavar="PATH", help="Path under which a proxy serves the app.")
@click.option("--timeout-keep-alive", default=5, show_default=True, type=click.IntRange(0), help="Seconds to keep an idle HTTP connection.")
@click.option("--limit-concurrency", type=click.IntRange(1), help="Answer HTTP with 503 beyond so many connections; WebSockets count.")
@click.option("--log-level", default="info", show_default=True, type=click.Choice(LOG_LEVELS), help="How much the log tells.")
def run(app: str, transports: str | None, **options: Any) -> None:
    """Serve APP, given as module:attribute, such as app:io.

    Stop it with Ctrl-C: running handlers finish, sockets get the reason 'server shutting down', and clients come back by themselves when it
    is up again.

    With several workers a broadcast reaches the clients of its own worker only, unless a cluster adapter connects them. Polling needs a
    load balancer that keeps each client with one worker, so WebSocket alone is offered unless --transports says otherwise; JavaScript
    clients then need the option transports: ["websocket"].

    Options are uvicorn's, --transports excepted. It stands for Server(transports=...), which wins where an app gives it.
    """
    _check(app, options)
    workers: int = options["workers"]
    if transports is None and workers > 1 and not os.environ.get(TRANSPORTS_VARIABLE):
        transports = "websocket"
    if transports is not None:
        # The environment reaches each worker before it makes the app.
        os.environ[TRANSPORTS_VARIABLE] = TRANSPORTS[transports]
    if not options["reload"]:
        try:
            import_from_string(app)
        except ImportFromStringError as error:
            raise click.BadParameter(str(error), param_hint="APP") from error
    log_config = copy.deepcopy(uvicorn.config.LOGGING_CONFIG)
    level: str = options["log_level"]
    log_config["loggers"]["mizzen"] = {"handlers": ["default"], "level": level.upper(), "propagate": False}
    # uvicorn makes the line of each request before it asks whether anybody wants it.
    shown = LOG_LEVELS.index(level) >= LOG_LEVELS.index("info")
    config = uvicorn.Config(app, ws=NATIVE, log_config=log_config, access_log=shown, **_given(options))
    if workers > 1:
        _say_what_workers_mean(workers)
    sys.exit(_serve(config))


def _check(app: str, options: dict[str, Any]) -> None:
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    if ":" not in app:
        raise click.BadParameter(f"{app!r} is not of the form module:attribute; did you mean {app}:io?", param_hint="APP")
    if options["reload"] and options["workers"] > 1:
        raise click.UsageError("--reload is for one process: leave out --workers, or --reload")
    if options["reload_dirs"] and not options["reload"]:
        raise click.UsageError("--reload-dir has no effect without --reload")
    if options["ssl_keyfile"] and not options["ssl_certfile"]:
        raise click.UsageError("--ssl-keyfile needs --ssl-certfile as well")


def _given(options: dict[str, Any]) -> dict[str, Any]:
    """Give what uvicorn is to know; what was not given is left to its own defaults."""
    given = {name: value for name, value in options.items() if value is not None and value != ()}
    if "reload_dirs" in given:
        given["reload_dirs"] = list(given["reload_dirs"])
    return given


def _say_what_workers_mean(workers: int) -> None:
    offered = os.environ.get(TRANSPORTS_VARIABLE, "")
    click.echo(
        f"{workers} workers: a broadcast reaches the clients of its own worker only, unless a cluster adapter connects them.", err=True
    )
    if "polling" in offered:
        click.echo("Polling is offered: it needs a load balancer that keeps each client with one worker (sticky sessions).", err=True)
    else:
        click.echo(
            'WebSocket only: JavaScript clients need the option transports: ["websocket"]. Polling needs sticky sessions; --transports both'
            " offers it.",
            err=True,
        )


def _serve(config: uvicorn.Config) -> int:
    """Serve until the end; give the exit code."""
    server = UvicornServer(config)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            if config.should_reload:
                ChangeReload(config, target=server.run, sockets=[config.bind_socket()]).run()
            elif config.workers > 1:
                with config.bind_socket() as listener:
                    return Workers(config, server, listener).run()
            else:
                server.run()
                if not server.started:
                    return START_FAILED
    finally:
        if config.uds and os.path.exists(config.uds):
            os.remove(config.uds)
    return 0
