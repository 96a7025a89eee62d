"""Damage of a version as findings: what, where, and the next command; and tables read with every doubt."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa

from robot_foundry.catalog.manifest import AGAIN, Manifest
from robot_foundry.catalog.store import Store
from robot_foundry.catalog.table_file import TableFile, open_table
from robot_foundry.catalog.tables import table_digest
from robot_foundry.catalog.tars import ADOPT_AGAIN, TarPlace, read_place
from robot_foundry.catalog.version import Version
from robot_foundry.checks.finding import Finding
from robot_foundry.runtime.errors import FoundryError

_AGAIN = {
    "": AGAIN,
    "ingest": "run the same foundry-data ingest again",
    "remap": "run the same foundry-data ingest again, and the foundry-data remap",
    "mix": "run the same foundry-data mix again",
    "tokenize": "run the same foundry-data tokenize again",
}


def maker(manifest: Manifest) -> str:
    """The command that made the version: ingest, remap, mix, or another that the provenance names."""
    if manifest.mixture is not None:
        return "mix"
    named = manifest.provenance.get("command")
    return named if named in _AGAIN else "remap" if "remap_of" in manifest.provenance else "ingest"


@dataclass(frozen=True)
class Fault:
    """Adds findings of one version to `findings`. `made_by` is the command that made it, "" if unknown."""

    store: Store
    version: Version
    findings: list[Finding]
    made_by: str = ""

    def add(self, check: str, where: str, message: str, remedy: str) -> None:
        self.findings.append(Finding(check, where, message, None, remedy))

    def shard(self, check: str, tar: str, what: str) -> None:
        """A tar that is not what was written: it can be made anew from what it was made of.

        One that was adopted is not ours to delete.
        """
        place = self._place(tar)
        if place is not None:
            remedy = f"put the tar back as it was; if it was moved, {ADOPT_AGAIN}"
            self.add(check, place.url, f"{place.url} {what}", remedy)
            return
        where = f"{self.store.url}/{tar}"
        again = _AGAIN["ingest" if self.made_by in ("", "remap") else self.made_by]
        index = tar.removesuffix(".tar") + ".index.arrow"
        self.add(
            check,
            where,
            f"{where} {what}",
            f"delete it, {self.store.url}/{index} and {self._build}, then {again}",
        )

    def index(self, index: str, what: str, tar: str) -> None:
        where = f"{self.store.url}/{index}"
        is_own = self._place(tar) is None
        remedy = f"foundry-data index {self.store.url}/{tar}" if is_own else f"delete it, then {ADOPT_AGAIN}"
        self.add("index", where, f"{where} {what}", remedy)

    def place(self, tar: str, what: str) -> None:
        """The store does not say where an adopted tar lies."""
        self.add("tar", f"{self.store.url}/{tar}", what, ADOPT_AGAIN)

    def table(self, name: str, what: str) -> None:
        path = self.store.table(self.version.dataset, self.version.version_id, name)
        where = f"{self.store.url}/{path}"
        self.add("tables", where, f"{where} {what}", self._again)

    def manifest(self, check: str, what: str) -> None:
        self.add(check, str(self.version), f"{self.version}: {what}", self._again)

    def edited(self, check: str, where: str, what: str) -> None:
        """A manifest that is not what was written: only without it is it written again."""
        path = self.store.manifest(self.version.dataset, self.version.version_id)
        remedy = f"delete {self.store.url}/{path} and {self._build}, then {_AGAIN[self.made_by]}"
        self.add(check, where, what, remedy)

    @contextmanager
    def caught(self, check: str, path: str) -> Iterator[None]:
        """What is raised on the way, as a finding."""
        try:
            yield
        except (FoundryError, pa.ArrowException, OSError, ValueError, KeyError) as error:
            where = f"{self.store.url}/{path}"
            self.add(check, where, f"{where} cannot be read: {error}", self._again)

    def _place(self, tar: str) -> TarPlace | None:
        """Where the tar lies if it is adopted and not in the store."""
        key = tar.removesuffix(".tar").rpartition("/")[2]
        try:
            is_own = self.store.storage.exists(tar)
            return None if is_own else read_place(self.store, self.version.dataset, key)
        except FoundryError:
            return None

    @property
    def _build(self) -> str:
        """What makes an ingest think that there is nothing to do."""
        build = self.store.build(self.version.dataset, self.version.build_id)
        return f"{self.store.url}/{build.rpartition('/')[0] if self.made_by == 'remap' else build}"

    @property
    def _again(self) -> str:
        again = f"delete {self._build}, then {_AGAIN[self.made_by]}"
        return again if self.made_by == "mix" else f"{again}: the tables are written anew"


def checked_table(
    store: Store,
    version: Version,
    name: str,
    digest: str,
    file: TableFile,
    schema: pa.Schema,
    fault: Fault,
) -> pa.Table | None:
    """The table if it is this file, has this schema and these values; else a finding and None."""
    path = store.table(version.dataset, version.version_id, name)
    try:
        table = open_table(store.storage, path, file, schema)
    except (FoundryError, OSError) as error:
        fault.table(name, f"cannot be used: {error}")
        return None
    if table_digest(table) != digest:
        fault.table(name, "has other values than the manifest names")
        return None
    return table
