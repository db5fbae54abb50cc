"""What every driver of a SCPI instrument has: its name, its owner, its session and its dialect."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from photonic.backends.visa.dialect import Dialect
from photonic.backends.visa.messages import Command, ask
from photonic.backends.visa.owner import Owner, owned
from photonic.backends.visa.replies import parse_bool, parse_count, parse_number
from photonic.backends.visa.roles import Identity, Setting
from photonic.backends.visa.session import ScpiSession
from photonic.errors import DisconnectedError, ProtocolError, SpecError

T = TypeVar("T")


class ScpiDriver:
    """A driver of one instrument; every method runs on its owner's thread.

    Args:
        session: with the instrument.
        owner: of the session.
        dialect: how it is spoken to.
    """

    def __init__(self, session: ScpiSession, owner: Owner, dialect: Dialect) -> None:
        self._session, self._owner, self._dialect = session, owner, dialect

    @property
    def name(self) -> str:
        """As the protocol says."""
        return self._session.name

    @owned
    def identify(self) -> Identity:
        """As the protocol says."""
        return self._session.identify()

    @owned
    def connect(self) -> None:
        """Asks what the instrument has; the connection is open."""

    @owned
    def snapshot(self) -> Mapping[str, Setting]:
        """As the protocol says; all in one exchange."""
        queries = {key: text for key, text in self._recorded().items() if text}
        answers = self._session.run([ask(text) for text in queries.values()]) if queries else []
        return dict(zip(queries, map(_typed, answers), strict=True))

    def close(self) -> None:
        """As the protocol says."""
        self._owner.close(self._session.close)

    def _recorded(self) -> Mapping[str, str]:
        """Queries of the settings that belong into a record, by their names there."""
        return {}

    def _number(self, query: str) -> float:
        return self._session.parsed(parse_number, self._session.query(query))

    def _count(self, query: str) -> int:
        return self._session.parsed(parse_count, self._session.query(query))

    def _bool(self, query: str) -> bool:
        return self._session.parsed(parse_bool, self._session.query(query))

    def _set(self, template: str, **fields: float | str) -> None:
        """One setting, read back."""
        self._session.run(self._dialect.setting(template, **fields))

    def _channel(self, channel: int) -> int:
        """What the instrument calls a channel that is counted from 0."""
        return channel + self._dialect.first_channel

    def _insist(self, job: Callable[[], T]) -> T:
        """A job that may be done twice: once more over a new connection, where the old one was found closed or wrong.

        A timeout is not waited for again.
        """
        try:
            return job()
        except (DisconnectedError, ProtocolError):
            return job()


class ChannelDriver(ScpiDriver):
    """A driver of an instrument with channels, of which ``_channels`` are used, in the role's order."""

    def __init__(self, session: ScpiSession, owner: Owner, dialect: Dialect) -> None:
        super().__init__(session, owner, dialect)
        self._channels: tuple[int, ...] = ()

    @property
    def n_channels(self) -> int:
        """As the protocol says."""
        return len(self._channels)


def each_channel(text: str, channels: Sequence[int]) -> list[str]:
    """A template, once for each channel where it names one."""
    return [text.format(ch=channel) for channel in channels] if "{ch}" in text else [text]


def commands(texts: Sequence[str]) -> list[Command]:
    """Commands without an answer."""
    return [Command(text) for text in texts if text]


def chosen_channels(name: str, asked: Sequence[int] | None, present: int) -> tuple[int, ...]:
    """Channels that are used.

    Raises:
        SpecError: one that the instrument does not have, or one twice.
    """
    channels = tuple(range(present)) if asked is None else tuple(int(channel) for channel in asked)
    if len(set(channels)) != len(channels) or not all(0 <= channel < present for channel in channels):
        raise SpecError(f"{name} has {present} channels, 0 to {present - 1}, each used once; found {channels[:8]}")
    return channels


def _typed(answer: str) -> Setting:
    try:
        return float(answer)
    except ValueError:
        return answer
