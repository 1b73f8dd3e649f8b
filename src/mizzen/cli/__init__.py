"""The command line: `mizzen run app:io`, `mizzen client URL`, `mizzen bench URL`."""

from __future__ import annotations

import click

from mizzen.cli.bench import bench
from mizzen.cli.client import client
from mizzen.cli.run import run

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="mizzen")
def main() -> None:
    """Realtime for Python."""


main.add_command(run)
main.add_command(client)
main.add_command(bench)
