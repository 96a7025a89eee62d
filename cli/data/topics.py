"""foundry-data topics: what ROS bags hold, to write a spec by."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from robot_foundry.cli.options import json_option
from robot_foundry.cli.output import counted, emit, note, table
from robot_foundry.runtime.errors import FindingsError
from robot_foundry.runtime.progress import Progress

if TYPE_CHECKING:
    from robot_foundry.ingest.sources.ros.overview import Overview, Topic

FEW_FIELDS = 6


@click.command("topics")
@click.argument("source")
@json_option
def command(source: str, as_json: bool) -> None:
    """List the topics of every ROS bag at SOURCE: types, numbers of messages, mean rates and fields.

    SOURCE is a file, a folder or a quoted glob, here or at s3:// or gs://. Nothing is written and no message
    is read, so it needs no spec: it is what to write one by (docs/ros.md). A bag that cannot be read is
    named, and the exit code is then 3.

      foundry-data topics recording.bag
    """
    from robot_foundry.ingest.sources.ros.overview import bags_at, overview

    files, found = bags_at(source), list["Overview"]()
    with Progress(len(files), "bags", "topics") as progress:
        for file in files:
            found.append(overview(file))
            progress.advance(1, errors=found[-1].refused is not None)
    emit(
        {"source": source, "bags": [asdict(bag) for bag in found]},
        as_json=as_json,
        text=lambda: "\n\n".join(map(_text, found)),
    )
    refused = sum(bag.refused is not None for bag in found)
    if refused:
        raise FindingsError(f"{refused} of {counted(len(found), 'bag')} cannot be read")
    if not as_json:
        note("Next: a spec that says which of these are cameras, states and actions: docs/ros.md")


def _text(bag: Overview) -> str:
    if bag.refused is not None:
        return f"{bag.path}: {bag.refused}"
    head = f"{bag.path}: {counted(len(bag.topics), 'topic')}, {bag.seconds:.3g} s"
    rows = [
        (
            *(topic.topic, " | ".join(topic.types), topic.messages),
            *("" if topic.hz is None else f"{topic.hz:.3g}", _fields(topic)),
        )
        for topic in bag.topics
    ]
    listed = table(("topic", "type", "messages", "Hz", "fields"), rows)
    return "\n".join([head, *(f"it {remark}" for remark in bag.remarks), listed])


def _fields(topic: Topic) -> str:
    """The first of its fields beside headers, or why there are none."""
    if topic.problem is not None:
        return f"the type {topic.problem}"
    own = [field for field in topic.fields if "header." not in field]
    more = len(own) - FEW_FIELDS
    return ", ".join(own[:FEW_FIELDS]) + (f", … and {more} more (see --json)" if more > 0 else "")
