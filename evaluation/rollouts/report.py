"""The result of a rollout: its figures as JSON, and its pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from robot_foundry import __version__
from robot_foundry.evaluation.contact_sheets import Film, contact_sheet, save_film
from robot_foundry.evaluation.intervals import clopper_pearson
from robot_foundry.evaluation.rollouts.episode import RolloutEpisode
from robot_foundry.evaluation.rollouts.kept_rows import ROWS
from robot_foundry.evaluation.rollouts.spec import RolloutSpec
from robot_foundry.evaluation.world import Outcome, WorldInfo
from robot_foundry.runtime.later import without_later
from robot_foundry.runtime.storage.storage import open_storage

FILMS_EACH = 2
SHEET, REPORT = "contact_sheet", "rollout.json"


@dataclass(frozen=True)
class Rollout:
    """All episodes of one condition, in the order of their scenes. `kept` of them had been run before."""

    spec: RolloutSpec
    world: WorldInfo
    episodes: tuple[RolloutEpisode, ...]
    seconds: float
    kept: int = 0

    @property
    def successes(self) -> int:
        return sum(episode.success for episode in self.episodes)

    def to_json(self) -> dict[str, Any]:
        trials = len(self.episodes)
        low, high = clopper_pearson(self.successes, trials)
        names = [entry.name for entry in fields(self.spec) if entry.name not in ("actor", "world")]
        rewards = [episode.reward for episode in self.episodes if episode.reward is not None]
        return {
            "world": self.world.name,
            "condition": self.spec.condition,
            **without_later({name: getattr(self.spec, name) for name in names}, self.spec),
            "words_of": list(self.spec.words_of),
            **asdict(self.spec.actor),
            "embodiment": self.world.embodiment,
            "successes": self.successes,
            "trials": trials,
            "rate": self.successes / trials,
            "interval_95": [low, high],
            "mean_steps": float(np.mean([episode.steps for episode in self.episodes])),
            "mean_return": float(np.mean(rewards)) if rewards else None,
            "outcomes": {
                outcome.value: sum(episode.outcome == outcome.value for episode in self.episodes)
                for outcome in Outcome
            },
            "seconds": self.seconds,
            "version": __version__,
            "scenes": [episode.to_json() for episode in self.episodes],
        }


def save(result: Rollout, out: Path, about: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Write `rollout.json`, contact sheets and a few films of each outcome to the folder `out`.

    Films are mp4 where PyAV is there (the extra `video`), GIFs else. Where the world draws no pictures there
    is the report alone. `about` is what it says besides.
    """
    films = [episode.film for episode in result.episodes if episode.film is not None]
    out.mkdir(parents=True, exist_ok=True)
    _remove_pictures(out)
    pictures = [*_sheets(films, out), *_films(films, out, result.world.control_hz)]
    rows = [ROWS] if (out / ROWS).exists() else []
    report = {**(about or {}), **result.to_json(), "files": [REPORT, *rows, *pictures]}
    text = json.dumps(report, indent=2, ensure_ascii=False)
    open_storage(str(out)).write(REPORT, text.encode("utf-8"))
    return report


def _remove_pictures(out: Path) -> None:
    """Those of the report before, which this one would not name."""
    for pattern in (f"{SHEET}*.png", "scene_*.gif", "scene_*.mp4"):
        for path in out.glob(pattern):
            path.unlink()


def _sheets(films: list[Film], out: Path) -> list[str]:
    """One of all films, and where there are both one of successes and one of failures."""
    groups = {SHEET: films}
    successes, failures = ([film for film in films if film.success is wanted] for wanted in (True, False))
    if successes and failures:
        groups |= {f"{SHEET}_success": successes, f"{SHEET}_failure": failures}
    names = []
    for name, shown in groups.items():
        if shown:
            contact_sheet(shown).save(out / f"{name}.png")
            names.append(f"{name}.png")
    return names


def _films(films: list[Film], out: Path, hz: float) -> list[str]:
    names = []
    for success in (True, False):
        for film in [film for film in films if film.success is success][:FILMS_EACH]:
            stem = f"scene_{film.index:04d}_{'success' if success else 'failure'}"
            names.append(save_film(film, out / stem, hz).name)
    return names
