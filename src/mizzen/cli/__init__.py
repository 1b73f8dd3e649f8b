"""The command line: `mizzen run app:io`."""

from __future__ import annotations

import click

from mizzen.cli.run import run

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="mizzen")
def main() -> None:
    """Realtime for Python."""


main.add_command(run)
