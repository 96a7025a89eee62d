"""The first pass through a bag: every message that the spec names is looked at once, and counted."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from robot_foundry.checks.finding import listed
from robot_foundry.ingest.sources.base import Refused
from robot_foundry.ingest.sources.robot.shared import MOST_LOW_DIM_BYTES
from robot_foundry.ingest.sources.ros.bags.bag import Bag
from robot_foundry.ingest.sources.ros.bags.damage import Damage
from robot_foundry.ingest.sources.ros.messages.packets import NO_PICTURE
from robot_foundry.ingest.sources.ros.options import RosOptions
from robot_foundry.ingest.sources.ros.sinks import Sink, Sinks
from robot_foundry.ingest.sources.ros.takers import Taker
from robot_foundry.ingest.sources.ros.tallies import Tally
from robot_foundry.ingest.sources.ros.times.tf import TF_STATIC, TOPICS
from robot_foundry.runtime.errors import nearest

# Between looks at how much memory is taken.
MESSAGES_A_LOOK = 4096
MOST_TOPICS = 8


@dataclass(frozen=True)
class Window:
    """The part of a bag that is an episode: from `start` ns of receipt up to and without `stop`."""

    start: int | None = None
    stop: int | None = None

    @property
    def is_all(self) -> bool:
        return self.start is None and self.stop is None


@dataclass(frozen=True)
class Gathered:
    """What a pass found. `tallies` are by topic of the bag, `names` are these by topic of the spec."""

    sinks: Sinks
    tallies: dict[str, Tally]
    names: dict[str, str]
    damage: Damage

    def tally(self, topic: str) -> Tally:
        return self.tallies[self.names[topic]]


def names_in(bag: Bag, options: RosOptions) -> dict[str, str]:
    """The bag's names of the topics of the spec. Refused, with the nearest name, if it lacks one."""
    sinks, found = Sinks.of(options), {}
    for topic in dict.fromkeys(topic for sink in sinks for topic in sink.topics):
        name = bag.named(topic)
        if name is not None:
            found[topic] = name
        elif topic not in TOPICS:
            topics = bag.topics
            more = ": `foundry-data topics` lists all" if len(topics) > MOST_TOPICS else ""
            raise Refused(
                f"it has no topic '{topic}'{nearest(topic, topics)} "
                f"(topics: {listed(topics, MOST_TOPICS)}{more})"
            )
    if sinks.tf is not None and not any(topic in found for topic in TOPICS):
        raise Refused(
            f"it has none of the topics {' and '.join(TOPICS)}, along which content.ros asks for a pose"
        )
    return found


def gather(bag: Bag, options: RosOptions, window: Window) -> Gathered:
    """Look at every message of the topics of the spec in the window.

    Refused if the index of the bag counts other messages than it holds, or memory would not do.
    """
    names = names_in(bag, options)
    sinks = Sinks.of(options)
    gathered = Gathered(sinks, {}, names, Damage())
    by_topic: dict[str, list[Sink]] = defaultdict(list)
    for sink in sinks:
        for topic in sink.topics:
            if topic in names:
                by_topic[names[topic]].append(sink)
    for topic in by_topic:
        types = sorted({channel.type for channel in bag.channels if channel.topic == topic})
        gathered.tallies[topic] = Tally(", ".join(types))
    pictures = {names[camera.stated.topic] for camera in sinks.cameras.values()}
    # What holds until it is said anew was published before an episode in the midst of a bag begins.
    texts = {
        topic for group in (sinks.texts, sinks.infos) for sink in group.values() for topic in sink.topics
    }
    held = {names[topic] for topic in (*texts, TF_STATIC) if topic in names}
    static = held if window.start is not None else set()
    for topics, start in ((static, None), (by_topic.keys() - static, window.start)):
        if topics:
            stop = window.stop
            takers = [
                Taker(bag, channel, by_topic[channel.topic], gathered.tallies[channel.topic])
                for channel in bag.channels
                if channel.topic in topics
            ]
            take = {taker.channel.number: taker.take for taker in takers}
            messages = bag.messages(topics, gathered.damage, start, stop, pictures)
            for count, message in enumerate(messages):
                take[message.channel.number](message)
                if not count % MESSAGES_A_LOOK and sinks.num_bytes > MOST_LOW_DIM_BYTES:
                    raise Refused(
                        f"the numbers of its streams take more than {MOST_LOW_DIM_BYTES} bytes: cut it by "
                        "content.ros.episodes, or name fewer"
                    )
    for camera in sinks.cameras.values():
        gathered.tally(camera.stated.topic).drop(camera.finish(), NO_PICTURE)
    if window.is_all:
        _check_counts(bag, gathered)
    return gathered


def _check_counts(bag: Bag, gathered: Gathered) -> None:
    """Refused where the bag's own counts are not those of its messages, and no damage explains it."""
    if gathered.damage.unknown:
        return
    unlike = {
        topic: (bag.num_messages(topic), len(tally))
        for topic, tally in gathered.tallies.items()
        if bag.num_messages(topic) != len(tally)
    }
    if not unlike:
        return
    said, read = (sum(counts) for counts in zip(*unlike.values(), strict=True))
    if said != read + gathered.damage.num_lost:
        topic, (count, found) = next(iter(unlike.items()))
        raise Refused(f"its index is wrong: it counts {count} messages of {topic}, and {found} are there")
