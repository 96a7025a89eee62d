"""foundry-eval compare A B …: which policy is better, and how sure that is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from robot_foundry.cli.options import json_option
from robot_foundry.cli.output import counted, emit, note, table
from robot_foundry.runtime.errors import UsageError

if TYPE_CHECKING:
    from robot_foundry.evaluation.comparison.compare import Comparison, Scope
    from robot_foundry.evaluation.comparison.plan import Plan


@click.command(name="compare")
@click.argument("policies", nargs=-1, metavar="[POLICY]...")
@click.option("--alpha", type=float, default=0.05, show_default=True, help="How often to err, at most.")
@click.option(
    "--condition", default="policy", show_default=True, help="Which reports of a run: as blank, random."
)
@click.option("--sequential", is_flag=True, help="Look after every episode: where could one have stopped?")
@click.option(
    "--html", type=click.Path(path_type=Path, dir_okay=False), help="Write one page with plots as well."
)
@click.option(
    "--plan",
    "rates",
    type=float,
    nargs=2,
    metavar="RATE RATE",
    help="How many episodes tell these rates apart.",
)
@click.option("--power", type=float, default=0.8, show_default=True, help="With --plan: how sure to see it.")
@json_option
def command(
    policies: tuple[str, ...],
    alpha: float,
    condition: str,
    sequential: bool,
    html: Path | None,
    rates: tuple[float, float] | None,
    power: float,
    as_json: bool,
) -> None:
    """Compare the success rates of two or more policies, by task and over all.

    A POLICY is a rollout.json, its folder, a run's folder, or NAME=RUN,RUN,… of training seeds of one recipe.
    Episodes are paired by their scenes. Policies that share a letter are not shown to differ.

    \b
    foundry-eval compare runs/a runs/b runs/c --html compared.html
    foundry-eval compare old=runs/a0,runs/a1,runs/a2 new=runs/b0,runs/b1,runs/b2
    foundry-eval compare runs/a runs/b --sequential
    foundry-eval compare --plan 0.5 0.68
    """
    if rates is not None:
        if policies or sequential or html:
            raise UsageError("--plan is asked for before there are rollouts: give no policies with it")
        from robot_foundry.evaluation.comparison.plan import plan

        planned = plan(*rates, power=power, alpha=alpha)
        emit(planned.to_json(), as_json=as_json, text=lambda: _planned(planned))
        return
    from robot_foundry.evaluation.comparison.compare import compare
    from robot_foundry.evaluation.comparison.outcomes import read_policy
    from robot_foundry.evaluation.comparison.page import page_of
    from robot_foundry.runtime.storage.storage import open_storage

    found = compare(
        [read_policy(policy, condition) for policy in policies], alpha=alpha, sequential=sequential
    )
    if html is not None:
        open_storage(html.parent).write(html.name, page_of(found).encode("utf-8"))
    emit(
        found.to_json() | ({} if html is None else {"html": str(html)}),
        as_json=as_json,
        text=lambda: "\n\n".join(
            [*(_told(found, scope) for scope in found.scopes), *([str(html)] if html else [])]
        ),
    )
    for line in found.notes:
        note(f"Note: {line}")


def _told(found: Comparison, scope: Scope) -> str:
    """A scope as two tables: the policies, and every pair of them."""
    sure = f"{100 * (1.0 - found.alpha):.4g} %"
    head = ("policy", "letters", "rate", "successes", sure, *(("runs",) if found.of == "recipes" else ()))
    rows = [
        (
            standing.name,
            standing.letters,
            f"{standing.rate:.1%}",
            f"{standing.successes}/{standing.trials}",
            _range(standing.interval),
            *((" ".join(f"{rate:.0%}" for rate in standing.rates_of_runs),) if found.of == "recipes" else ()),
        )
        for standing in scope.standings
    ]
    stop = ("stop at",) if found.sequential else ()
    pairs = [
        (
            f"{pair.second} - {pair.first}",
            f"{100 * pair.difference:+.1f}",
            _range(pair.interval, points=True),
            pair.test + ("" if pair.scenes is None else f", {counted(pair.scenes, 'scene')}"),
            f"{pair.p:.2g}",
            f"{pair.p_adjusted:.2g}",
            *((str(pair.stopped_at or "go on"),) if found.sequential else ()),
        )
        for pair in scope.pairs
    ]
    tables = [table(head, rows), table(("pair", "points", sure, "test", "p", "Holm", *stop), pairs)]
    verdict = _verdict(scope) if found.sequential else ()
    return "\n\n".join([scope.name, *tables, *scope.limits, *verdict])


def _verdict(scope: Scope) -> Iterator[str]:
    if scope.may_stop:
        last = max(pair.stopped_at or 0 for pair in scope.pairs)
        yield f"may stop: every pair is decided after {counted(last, 'scene')}"
    else:
        left = sum(pair.stopped_at is None for pair in scope.pairs)
        of_all = f"{counted(left, 'pair')} of {len(scope.pairs)}"
        yield f"not decided: {of_all}; more scenes may be added and looked at"


def _range(interval: tuple[float, float], *, points: bool = False) -> str:
    low, high = interval
    return f"{100 * low:+.1f} … {100 * high:+.1f}" if points else f"{low:.1%} … {high:.1%}"


def _planned(planned: Plan) -> str:
    first, second = planned.rates
    about = "" if planned.exact else "about "
    rows = [
        ("Barnard, any scenes", f"{about}{planned.barnard:,}", f"{about}{planned.barnard:,}"),
        ("McNemar, the same scenes", f"{about}{planned.mcnemar:,}", f"{about}{planned.mcnemar:,}"),
        ("sequential, the same scenes", f"{planned.sequential_most:,}", f"{planned.sequential_mean:,.1f}"),
    ]
    told = f"{first:.3g} against {second:.3g}, power {planned.power:g}, two-sided alpha {planned.alpha:g}"
    return f"{told}\n\n{table(('episodes of each policy', 'at most', 'on average'), rows)}"
