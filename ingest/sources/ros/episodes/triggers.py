"""Messages of a topic and requests of services that say where an episode begins and ends."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from robot_foundry.ingest.sources.base import Refused
from robot_foundry.ingest.sources.ros.bags import services
from robot_foundry.ingest.sources.ros.bags.bag import Bag, Message
from robot_foundry.ingest.sources.ros.bags.damage import Damage
from robot_foundry.ingest.sources.ros.bags.decoders import plain
from robot_foundry.ingest.sources.ros.bags.definitions import Undecodable
from robot_foundry.ingest.sources.ros.messages.fields import text_at
from robot_foundry.ingest.sources.ros.options import Episodes, Service, TextTopic
from robot_foundry.runtime.errors import nearest

Mark = tuple[int, bool]  # ns of receipt, and whether an episode begins there: else one ends
Value = str | bool | int | float | None
Request = tuple[int, str, Value]  # ns of receipt, topic, and the value that the spec asks for


def marks_of(bag: Bag, episodes: Episodes) -> Iterator[Mark]:
    """In order of time. Refused if the bag has no such trigger, or one that cannot be read."""
    if episodes.trigger is not None:
        yield from _of_topic(bag, episodes, episodes.trigger)
    elif episodes.service is not None:
        yield from _of_service(bag, episodes, episodes.service)


def topics_of(bag: Bag, episodes: Episodes | None) -> set[str]:
    """The bag's names of the topics that say where episodes begin and end."""
    if episodes is None:
        return set()
    stated = [episodes.topic, None if episodes.trigger is None else episodes.trigger.topic]
    if episodes.service is not None:
        called = (episodes.service.begin, episodes.service.until)
        stated += [services.topic_of(name) for name in called if name is not None]
    return {name for topic in stated if topic is not None and (name := bag.named(topic)) is not None}


def named(bag: Bag, topic: str) -> str:
    name = bag.named(topic)
    if name is None:
        raise Refused(
            f"it has no topic '{topic}'{nearest(topic, bag.topics)}, which content.ros.episodes names"
        )
    return name


def _of_topic(bag: Bag, episodes: Episodes, trigger: TextTopic) -> Iterator[Mark]:
    topic = named(bag, trigger.topic)
    for message in bag.messages({topic}, Damage()):
        value = _value(message, trigger.field, f"trigger {topic}")
        if value in (episodes.start, episodes.stop):
            yield message.received_ns, value == episodes.start


def _of_service(bag: Bag, episodes: Episodes, service: Service) -> Iterator[Mark]:
    if any(container.is_ros1 for container, _ in bag.parts):
        raise Refused("it is a bag of ROS 1, which holds no calls of services: name a topic as the trigger")
    begin = _topic_of_calls(bag, service.begin)
    until = None if service.until is None else _topic_of_calls(bag, service.until)
    for received_ns, topic, value in _requests(bag, {begin} if until is None else {begin, until}, service):
        if service.field is None:
            yield received_ns, topic == begin
        elif value in (episodes.start, episodes.stop):
            yield received_ns, value == episodes.start


def _topic_of_calls(bag: Bag, service: str) -> str:
    name = bag.named(services.topic_of(service))
    types = {channel.type for channel in bag.channels if channel.topic == name}
    if name is None or not all(services.is_event(kind) for kind in types):
        known = [topic.removesuffix(services.TOPIC) for topic in bag.topics if topic.endswith(services.TOPIC)]
        raise Refused(
            f"it holds no calls of the service '{service}'{nearest(service, known)} "
            f"(services: {', '.join(known) or 'none'}), which content.ros.episodes names: "
            "`ros2 bag record --all-services` records them where a service is introspected"
        )
    return name


def _requests(bag: Bag, topics: Collection[str], service: Service) -> list[Request]:
    """Each request once: as the service received it, or where that is not recorded, as it was sent."""
    found: dict[tuple[str, int], list[Request]] = {}
    for message in bag.messages(topics, Damage()):
        topic, value = message.channel.topic, None
        try:
            kind = services.event_kind(plain(message.raw))
        except Undecodable:
            kind = None
        if kind is None:
            raise Refused(f"its calls {topic} cannot be read: their bytes are no events of a service")
        if kind > services.REQUEST_RECEIVED:
            continue
        if service.field is not None:
            value = _value(message, f"request[0].{service.field}", f"service {service.begin}")
        found.setdefault((topic, kind), []).append((message.received_ns, topic, value))
    requests: list[Request] = []
    for topic in sorted(topics):
        received = found.get((topic, services.REQUEST_RECEIVED), [])
        requests += received or found.get((topic, services.REQUEST_SENT), [])
    return sorted(requests, key=lambda request: request[0])


def _value(message: Message, field: str, what: str) -> Value:
    channel = message.channel
    if channel.decode is None:
        raise Refused(f"its {what} cannot be read: its type {channel.type} {channel.problem}")
    try:
        return text_at(channel.decode(message.raw), field)
    except Undecodable as error:
        raise Refused(f"its {what} cannot be read: {error}") from error
