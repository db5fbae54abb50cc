"""A session with one SCPI instrument: messages in, answers out, and every doubt ends it.

An exchange is one message and one answer. The message ends with ``:SYST:ERR?``, so that an error is found by the call
that made it. A timeout, a closed peer or an answer that is not what was asked for closes the connection at once: a late
answer can then never be taken for another one's. The next exchange opens it again, and the same instrument must answer.

Where the dialect names a register that nothing else uses (``*ESE``), each message leaves a number in it and the next
message asks for that number first. It tells a duplicate answer from the true one, and an instrument that was switched
off and on from one that was not: neither shows in the answers themselves.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TypeVar

from photonic.backends.visa.blocks import BUFFER_BYTES, Answer
from photonic.backends.visa.deadline import Deadline
from photonic.backends.visa.messages import Command, Exchange, Protocol, ask, messages, pieces
from photonic.backends.visa.owner import Owner
from photonic.backends.visa.replies import (
    QUEUE_OVERFLOW,
    QueuedError,
    parse_count,
    parse_error,
    parse_identity,
    same_setting,
)
from photonic.backends.visa.roles import Identity
from photonic.backends.visa.streams import ByteStream
from photonic.backends.visa.transcript import Transcript
from photonic.errors import (
    DisconnectedError,
    IdentityError,
    InstrumentError,
    InstrumentTimeoutError,
    ProtocolError,
    ReadbackError,
)

LAST_MARK = 255  # *ESE holds 8 bits; 0 is what an instrument has after it was switched on
MOST_ERRORS = 100
T = TypeVar("T")
_UNKNOWN = range(-199, -99)  # command errors: the instrument does not know what was sent


class ScpiSession:
    """A session that opens itself when it is used; used by one thread at a time.

    Args:
        name: the instrument's name in the bench file.
        connect: opens the connection.
        protocol: how it takes messages.
        identity: regular expression that is searched for in the answer to ``*IDN?``.
        timeout_s: of each exchange.
        transcript: of all exchanges.
        owner: of the thread that uses it, which is told of every exchange, and may interrupt one.
    """

    def __init__(
        self,
        name: str,
        connect: Callable[[], ByteStream],
        protocol: Protocol,
        *,
        identity: str = "",
        timeout_s: float = 5.0,
        transcript: Transcript | None = None,
        owner: Owner | None = None,
    ) -> None:
        self.name, self.protocol, self.timeout_s = name, protocol, timeout_s
        self._connect, self._identity, self._transcript = connect, identity, transcript
        self._owner = owner
        self._stream: ByteStream | None = None
        self._who: Identity | None = None
        self._mark: int | None = None
        self._buffer = bytearray(BUFFER_BYTES)

    # ------------------------------------------------------------ exchanges

    def run(
        self, commands: Sequence[Command], *, preamble: Sequence[Command] = (), timeout_s: float | None = None
    ) -> list[str]:
        """Sends commands in as few messages as their size allows.

        Args:
            commands: in this order.
            preamble: goes first in each message, such as the format of its blocks.
            timeout_s: of each message, where it is not the session's.

        Returns:
            Answers in text of ``commands``, in their order; blocks go to their arrays.

        Raises:
            InstrumentError: the instrument's error queue was not empty; the connection stays.
            ReadbackError: an answer is not what was expected.
            InstrumentTimeoutError: no answer by the deadline; the connection was closed, as for all that follow.
            DisconnectedError: refused, or closed by the other side.
            ProtocolError: an answer that is not what was asked for.
            IdentityError: another instrument answers.
        """
        answers: list[str] = []
        for message in messages(commands, preamble, self.protocol.message_bytes):
            answers += self._message([*preamble, *message], timeout_s)[sum(c.query for c in preamble) :]
        return answers

    def query(self, text: str, *, retries: int = 0, timeout_s: float | None = None) -> str:
        """One query.

        Args:
            text: of the query.
            retries: how often it may be asked again after a doubt; only for queries that change nothing.
            timeout_s: where it is not the session's.

        Raises:
            LabError: as ``run``.
        """
        for left in range(retries, -1, -1):
            try:
                return self.run([ask(text)], timeout_s=timeout_s)[0]
            except (InstrumentTimeoutError, DisconnectedError, ProtocolError):
                if not left:
                    raise
        raise AssertionError("unreachable")

    def parsed(self, parse: Callable[[str, str], T], answer: str) -> T:
        """What an answer means; one that means nothing is a doubt, and closes the connection.

        Args:
            parse: of ``photonic.backends.visa.replies``.
            answer: of ``run``.
        """
        try:
            return parse(self.name, answer)
        except ProtocolError:
            self.close()
            raise

    def identify(self) -> Identity:
        """Asks who is there.

        Raises:
            IdentityError: not who was expected, or not who was there before.
        """
        with_identity = self._opened()
        return self._checked_identity(with_identity)

    def close(self) -> None:
        """Closes the connection; the next exchange opens it again."""
        stream, self._stream, self._mark = self._stream, None, None
        if stream is not None:
            stream.close()

    def _message(self, commands: Sequence[Command], timeout_s: float | None) -> list[str]:
        self._opened()
        marked = self._mark
        first: list[Command] = []
        if marked is not None:
            self._mark = marked % LAST_MARK + 1
            first = [ask(f"{self.protocol.mark}?"), Command(f"{self.protocol.mark} {self._mark}")]
        last = [] if self.protocol.errors is None else [ask(self.protocol.errors)]
        try:
            answers = self._exchange([*first, *commands, *last], timeout_s, marked)
        except InstrumentError:
            self._drain()  # or the rest of its queue would be blamed on the next message
            raise
        if marked is not None:
            del answers[0]
        if last:
            self._raise_errors(commands, self.parsed(parse_error, answers.pop()))
        self._check(commands, answers)
        return answers

    def _exchange(self, commands: Sequence[Command], timeout_s: float | None, marked: int | None) -> list[str]:
        """One message and its answer; any doubt closes the connection."""
        log = Exchange()
        error: BaseException | None = None
        try:
            return self._talk(commands, self._deadline(timeout_s), marked, log)
        except InstrumentError as caught:
            error = caught
            raise
        except BaseException as caught:
            error = caught
            self.close()
            raise
        finally:
            if self._owner is not None:
                self._owner.expect_by(None)
            if self._transcript is not None:
                self._transcript.write(self.name, log.sent, log.received, error)

    def _talk(self, commands: Sequence[Command], deadline: Deadline, marked: int | None, log: Exchange) -> list[str]:
        stream = self._stream
        if stream is None:
            raise DisconnectedError(f"{self.name}: not connected")
        if stream.unread():
            raise ProtocolError(f"{self.name}: bytes came that nobody asked for; the connection was closed")
        stream.send(pieces(commands, self.protocol.end, log), deadline)
        wanted = [command for command in commands if command.query or command.into is not None]
        if not wanted:
            return []
        answer = Answer(self.name, stream, deadline, self._buffer)
        answers: list[str] = []
        for index, command in enumerate(wanted):
            into = command.into
            if into is not None and answer.starts_block():
                answer.block(into)
                log.received.append(into)
            else:
                answers.append(answer.text())
                log.received.append(answers[-1])
                if index == 0 and marked is not None:
                    self._check_mark(answers[0], marked)
                if into is not None and not answer.ended:
                    raise ProtocolError(f"{self.name}: expected a block for {command.text}, found {answers[-1][:60]!r}")
            if answer.ended != (index == len(wanted) - 1):
                self._cut_short(command, wanted, answers, answer)
        answer.finish()
        return answers

    def _cut_short(self, command: Command, wanted: Sequence[Command], answers: list[str], answer: Answer) -> None:
        """The line ended before, or after, the last answer: an error that explains it, or a doubt."""
        if answer.ended and self.protocol.errors is not None and answers:
            queued = parse_error(self.name, answers[-1])
            if queued.code:
                answer.finish()
                raise self._error(wanted, [queued])
        raise ProtocolError(
            f"{self.name}: expected {len(wanted)} answers in one line, "
            + ("found fewer" if answer.ended else f"found more after {command.text}")
        )

    # ------------------------------------------------------------ errors and checks

    def _check_mark(self, answer: str, marked: int) -> None:
        found = parse_count(self.name, answer)
        if found != marked:
            raise ProtocolError(
                f"{self.name}: expected {marked} in {self.protocol.mark}, found {found}: the answer belongs to another "
                "message, or the instrument was switched off and on and has lost its settings, or another program "
                "talks to it"
            )

    def _check(self, commands: Sequence[Command], answers: Sequence[str]) -> None:
        asked = [command for command in commands if command.query]
        for command, answer in zip(asked, answers, strict=True):
            if command.expect is not None and not same_setting(answer, command.expect, command.tolerance):
                raise ReadbackError(
                    f"{self.name}: {command.text} expected {command.expect}, found {answer!r}: the setting was not "
                    "taken"
                )

    def _raise_errors(self, commands: Sequence[Command], first: QueuedError) -> None:
        if first.code:
            raise self._error(commands, [first, *self._drain()])

    def _error(self, commands: Sequence[Command], queued: Sequence[QueuedError]) -> InstrumentError:
        texts = "; ".join(f"{entry.code} {entry.text}" for entry in queued)
        lost = ", and more that its queue could not hold" if any(e.code == QUEUE_OVERFLOW for e in queued) else ""
        sent = "; ".join(command.text for command in commands)
        return InstrumentError(
            f"{self.name} refused: {texts}{lost} (sent: {sent if len(sent) <= 160 else sent[:157] + '...'})",
            queued[0].code,
            queued[0].text,
        )

    def _drain(self) -> list[QueuedError]:
        """What is left in the error queue."""
        rest: list[QueuedError] = []
        query = self.protocol.errors
        while query is not None and len(rest) < MOST_ERRORS:
            entry = self.parsed(parse_error, self._exchange([ask(query)], None, None)[0])
            if not entry.code:
                return rest
            rest.append(entry)
        self.close()
        return rest

    # ------------------------------------------------------------ opening

    def _deadline(self, timeout_s: float | None) -> Deadline:
        seconds = self.timeout_s if timeout_s is None else timeout_s
        if self._owner is None:
            return Deadline(self.name, seconds)
        self._owner.expect_by(seconds)
        return Deadline(self.name, seconds, self._owner.interrupted)

    def _opened(self) -> str | None:
        """Opens the connection where it is not open; the answer to ``*IDN?`` where it was opened."""
        if self._stream is not None:
            return None
        self._stream = self._connect()
        try:
            clear = [Command(self.protocol.clear)] if self.protocol.clear else []
            (answer,) = self._exchange([*clear, ask("*IDN?")], None, None)
            self._checked_identity(answer)
            self._find_mark()
            if self.protocol.setup:
                self._message(self.protocol.setup, None)
        except BaseException:
            self.close()
            raise
        return answer

    def _checked_identity(self, answer: str | None) -> Identity:
        if answer is None:
            (answer,) = self._message([ask("*IDN?")], None)
        if not re.search(self._identity, answer):
            self.close()
            raise IdentityError(
                f"{self.name}: expected an instrument whose *IDN? matches {self._identity!r}, found {answer!r}; check "
                "the resource in the bench file, or correct its identity"
            )
        who = parse_identity(self.name, answer)
        if self._who is not None and who != self._who:
            self.close()
            raise IdentityError(f"{self.name}: expected the same instrument as before, {self._who}, found {who}")
        self._who = who
        return who

    def _find_mark(self) -> None:
        """Whether the instrument keeps the register that marks messages; one that does not know it does without."""
        register, errors = self.protocol.mark, self.protocol.errors
        if register is None or errors is None:
            return
        try:
            answers = self._exchange([Command(f"{register} 1"), ask(f"{register}?"), ask(errors)], None, None)
        except InstrumentError as error:
            if error.code not in _UNKNOWN:
                raise
            self._drain()
            return
        refused = self.parsed(parse_error, answers[1])
        if refused.code:
            self._drain()
        elif self.parsed(parse_count, answers[0]) == 1:
            self._mark = 1
