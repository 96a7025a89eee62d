"""foundry-data mix: exact shares of datasets, and which columns each of them has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import partial
from pathlib import Path

import click

from robot_foundry.catalog.kind import all_flags, all_kinds, one
from robot_foundry.catalog.mixture import commit_mixture, make_mixture, parse_weights, weight_doubts
from robot_foundry.catalog.opened import OpenMixture, OpenVersions
from robot_foundry.catalog.refs import datasets
from robot_foundry.catalog.selection import DEFAULT_GAP, SPLIT_BY, SPLITS
from robot_foundry.catalog.store import Store, check_name
from robot_foundry.cli.options import dry_run_option, json_option, store_option
from robot_foundry.cli.output import emit, note, table
from robot_foundry.cli.pointer import pointer_option, write_pointer
from robot_foundry.runtime.errors import UsageError

DRAWS = 1_000_000
GROUPS = list(dict.fromkeys(kind.groups for kind in all_kinds()))
SAMPLES = list(dict.fromkeys(kind.samples for kind in all_kinds()))
HAS, LACKS = "x", "."


@click.command()
@click.option(
    "--weights",
    required=True,
    multiple=True,
    metavar="REF=W,…|@NAME|@FILE",
    help="Shares, exact: sim=0.6,real=0.4 or sim=3,real@v2=2; may be repeated. Or a named mixture, or a "
    "file of one: @oxe_magic_soup, @mine.yaml (docs/oxe.md).",
)
@click.option("--as", "name", metavar="NAME", help="Store the mixture as the next version of NAME.")
@click.option("--split", type=click.Choice(SPLITS), default="train", show_default=True, help="Rows to use.")
@click.option("--val-fraction", default="1/10", show_default=True, help="Share that is held out.")
@click.option(
    "--split-by",
    type=click.Choice(SPLIT_BY),
    default="episode",
    show_default=True,
    help=f"Hold out whole {'/'.join(GROUPS)}, or the end of every {'/'.join(map(one, GROUPS))} "
    f"(for datasets of few {'/'.join(GROUPS)}).",
)
@click.option(
    "--gap",
    default=DEFAULT_GAP,
    show_default=True,
    help=f"With --split-by time: {'/'.join(SAMPLES)} between, unused.",
)
@click.option(
    "--where",
    metavar="SQL",
    help=f"Condition on {'/'.join(GROUPS)}: \"attributes.ok AND instruction LIKE '%cup%'\".",
)
@click.option(
    "--skip",
    multiple=True,
    type=click.Choice(all_flags()),
    help=f"Leave {'/'.join(SAMPLES)} with this flag out; may be repeated.",
)
@pointer_option
@dry_run_option
@store_option
@json_option
def command(
    weights: tuple[str, ...],
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
    inline. A mixture in REF is replaced by its components. `foundry-data sources` lists named mixtures.
    """
    if pointer is not None and name is None:
        raise UsageError("a pointer names a stored mixture", hint="add --as NAME")
    if name is not None:
        check_name(name, "name")
    make = partial(
        make_mixture,
        OpenVersions(Store(store)),
        split=split,
        val_fraction=val_fraction,
        where=where,
        split_by=split_by,
        gap=gap,
        skip=skip,
    )
    shares = _shares(weights, make, store)
    opened = make(shares)
    mixture = opened.mixture
    warnings = weight_doubts(mixture, shares) + opened.kind.doubts_of_mixture(opened)
    version = commit_mixture(opened, name) if name is not None and not dry_run else None
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
        "dims": opened.kind.columns_of_mixture(opened),
    }
    title = f"mixture {mixture.id}" + ("" if version is None else f" stored as {version}")
    emit(result, as_json=as_json, text=lambda: "\n".join([title, "", *mixture_tables(opened)]))
    for warning in warnings:
        note(f"Warning: {warning}")
    if version is None and not dry_run:
        note("Nothing was stored.\nHint: add --as NAME to store it")


def _shares(
    weights: tuple[str, ...], make: Callable[[Mapping[str, Fraction]], OpenMixture], store: str
) -> dict[str, Fraction]:
    """What was asked for, of a named mixture with the samples that these options choose of each dataset."""
    from robot_foundry.ingest.spec.mixture_files import MARK, check_present, load_mixture

    marked = [text for text in weights if text.startswith(MARK)]
    if not marked:
        return parse_weights(",".join(weights))
    if len(weights) > 1:
        raise UsageError("a named mixture goes with no other weights", hint="copy its file and add to it")
    named = load_mixture(marked[0])
    check_present(named, datasets(Store(store)))

    def num_samples(ref: str) -> int:
        return sum(part.num_samples for part in make({ref: Fraction(1)}).mixture.components)

    return named.shares(num_samples)


def mixture_tables(opened: OpenMixture) -> list[str]:
    """One row a component, and where they differ in columns, which component has which."""
    headers, rows = component_rows(opened)
    columns = mask_rows(opened)
    return [table(headers, rows), *(["", table(*columns)] if columns[1] else [])]


def component_rows(opened: OpenMixture) -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
    """Headers and one row a component."""
    headers = (
        "component",
        "version",
        "weight",
        "share",
        "samples",
        f"epochs in {DRAWS:,} {opened.kind.samples}",
        "selection",
    )
    rows: list[tuple[object, ...]] = []
    for part in opened.parts:
        component = part.component
        epochs = float(component.fraction * DRAWS / component.num_samples)
        chosen = " ".join(f"{key}={value}" for key, value in sorted(component.selection.items()))
        version = str(part.opened.version)
        share = f"{float(component.fraction):.2%}"
        rows.append((component.name, version, component.weight, share, component.num_samples, epochs, chosen))
    return headers, rows


def mask_rows(opened: OpenMixture) -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
    """Headers and one row a column of the mixture, with which component has it."""
    headers = ("stream", "dim", "unit", *(part.name for part in opened.parts))
    rows: list[tuple[object, ...]] = [
        (stream, dim["name"], dim["unit"], *(HAS if has else LACKS for has in dim["components"].values()))
        for stream, dims in opened.kind.columns_of_mixture(opened).items()
        for dim in dims
    ]
    return headers, rows
