"""Options that several commands share, so that they read and behave alike everywhere."""

from __future__ import annotations

import click

store_option = click.option(
    "--store",
    envvar="FOUNDRY_STORE",
    show_envvar=True,
    default="./store",
    show_default=True,
    metavar="FOLDER|URL",
    help="Where datasets live.",
)

json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")

dry_run_option = click.option(
    "--dry-run", is_flag=True, help="Say what would be done; read what that needs and write nothing."
)
