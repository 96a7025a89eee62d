"""foundry-data mix: exact shares of datasets, and which dims each of them has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from robot_foundry.catalog.components import Mixture
from robot_foundry.catalog.mixture import commit_mixture, make_mixture, parse_weights
from robot_foundry.catalog.refs import component_version
from robot_foundry.catalog.robot.tables import FLAGS
from robot_foundry.catalog.robot.unions import Unions, unions_of
from robot_foundry.catalog.selection import DEFAULT_GAP, SPLIT_BY, SPLITS
from robot_foundry.catalog.store import Store, check_name
from robot_foundry.cli.options import dry_run_option, json_option, store_option
from robot_foundry.cli.output import emit, note, table
from robot_foundry.cli.pointer import pointer_option, write_pointer
from robot_foundry.runtime.errors import UsageError
from robot_foundry.windows.mixing import warnings_for

DRAWS = 1_000_000
HAS, LACKS = "x", "."


@click.command()
@click.option(
    "--weights", required=True, metavar="REF=W,…", help="Shares, exact: sim=0.6,real=0.4 or sim=3,real@v2=2."
)
@click.option("--as", "name", metavar="NAME", help="Store the mixture as the next version of NAME.")
@click.option("--split", type=click.Choice(SPLITS), default="train", show_default=True, help="Rows to use.")
@click.option("--val-fraction", default="1/10", show_default=True, help="Share that is held out.")
@click.option(
    "--split-by",
    type=click.Choice(SPLIT_BY),
    default="episode",
    show_default=True,
    help="Hold out whole episodes, or the end of every episode (for datasets of few episodes).",
)
@click.option(
    "--gap", default=DEFAULT_GAP, show_default=True, help="With --split-by time: frames between, unused."
)
@click.option(
    "--where",
    metavar="SQL",
    help="Condition on episodes: \"attributes.ok AND instruction LIKE '%cup%'\".",
)
@click.option(
    "--skip",
    multiple=True,
    type=click.Choice(FLAGS),
    help="Leave frames with this flag out; may be repeated.",
)
@pointer_option
@dry_run_option
@store_option
@json_option
def command(
    weights: str,
    name: str | None,
    split: str,
    val_fraction: str,
    split_by: str,
    gap: int,
    where: str | None,
    skip: tuple[str, ...],
    pointer: Path | None,
    dry_run: bool,
    store: str,
    as_json: bool,
) -> None:
    """Mix datasets by exact weights.

    Without --as nothing is stored: equal content has the equal id, and a recipe may hold the same weights
    inline. A mixture in REF is replaced by its components.
    """
    if pointer is not None and name is None:
        raise UsageError("a pointer names a stored mixture", hint="add --as NAME")
    opened = Store(store)
    if name is not None:
        check_name(name, "name")
    shares = parse_weights(weights)
    mixture = make_mixture(
        opened,
        shares,
        split=split,
        val_fraction=val_fraction,
        where=where,
        split_by=split_by,
        gap=gap,
        skip=skip,
    )
    united = unions_of(opened, mixture)
    warnings = warnings_for(opened, mixture, shares)
    version = commit_mixture(opened, mixture, name) if name is not None and not dry_run else None
    if pointer is not None and version is not None:
        write_pointer(pointer, version, {c.name: c.num_samples for c in mixture.components})
    result = {
        "id": mixture.id,
        "version": None if version is None else str(version),
        "dry_run": dry_run,
        "mixture": mixture.to_json(),
        "draws": DRAWS,
        "epochs": {c.name: float(c.fraction * DRAWS / c.num_samples) for c in mixture.components},
        "warnings": warnings,
        "dims": _masks(mixture, united),
    }
    headers, rows = component_rows(opened, mixture)
    title = f"mixture {mixture.id}" + ("" if version is None else f" stored as {version}")
    emit(
        result,
        as_json=as_json,
        text=lambda: "\n".join([title, "", table(headers, rows), "", mask_tables(mixture, united)]),
    )
    for warning in warnings:
        note(f"Warning: {warning}")
    if version is None and not dry_run:
        note("Nothing was stored.\nHint: add --as NAME to store it")


def component_rows(store: Store, mixture: Mixture) -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
    """Headers and one row a component."""
    headers = (
        "component",
        "version",
        "weight",
        "share",
        "samples",
        f"epochs in {DRAWS:,} draws",
        "selection",
    )
    rows: list[tuple[object, ...]] = []
    for component in mixture.components:
        epochs = float(component.fraction * DRAWS / component.num_samples)
        chosen = " ".join(f"{key}={value}" for key, value in sorted(component.selection.items()))
        version = str(component_version(store, component))
        share = f"{float(component.fraction):.2%}"
        rows.append((component.name, version, component.weight, share, component.num_samples, epochs, chosen))
    return headers, rows


def mask_tables(mixture: Mixture, united: Unions) -> str:
    """For state and every common stream: the union's dims, and which component has which."""
    headers = ("stream", "dim", "unit", *(component.name for component in mixture.components))
    rows = [
        (stream, dim["name"], dim["unit"], *(HAS if has else LACKS for has in dim["components"].values()))
        for stream, dims in _masks(mixture, united).items()
        for dim in dims
    ]
    return table(headers, rows)


def _masks(mixture: Mixture, united: Unions) -> dict[str, list[dict[str, Any]]]:
    masks: dict[str, list[dict[str, Any]]] = {}
    for stream, union in {"state": united.state, **united.streams}.items():
        held = {
            component.name: set(schema.space(stream).indices_in(union, schema.embodiment).tolist())
            for component in mixture.components
            for schema in [united.schemas[component.name]]
        }
        masks[stream] = [
            {"name": dim.name, "unit": dim.unit, "components": {name: i in at for name, at in held.items()}}
            for i, dim in enumerate(union)
        ]
    return masks
