"""Exchange one job's data from outside: send the payload, collect answer and outputs, within limits of size and time.

A job's bytes are untrusted: here they are only collected and counted.
"""

import ctypes
import os
import selectors
import socket
import time
from dataclasses import dataclass

from astray.sandbox.inside.ending import STOPS, Ending

_CHUNK = 1 << 16
_CONTROL, _CHANNEL = "control", "channel"


@dataclass(frozen=True)
class Said:
    """Data received from a job.

    Attributes:
        report: the first process's report of the end; None where the sandbox went down or did not report in time.
        texts: the job's answer, its standard output and its standard error.
        too_much: whether one of them was longer than allowed; it is cut there.
    """

    report: Ending | None
    texts: tuple[bytes, bytes, bytes]
    too_much: bool


def converse(
    control: socket.socket,
    channel: socket.socket,
    outputs: tuple[int, int],
    payload: bytes,
    most: int,
    until: float,
    wait: bool,
) -> Said:
    """Exchange data until the job's end is reported and everything is read.

    Args:
        control: socket to the first process.
        channel: socket to the job; it is closed, as are the outputs.
        outputs: descriptors to read the job's standard output and standard error from.
        payload: payload of the job.
        most: maximum number of bytes of each text.
        until: deadline, in `time.monotonic`.
        wait: whether to read until all writers are gone; False where processes may stay behind with the outputs open.
    """
    talk = _Talk(control, channel, outputs, payload, most)
    try:
        talk.run(until, wait)
    finally:
        talk.close()
    return Said(talk.report, (bytes(talk.texts[0]), bytes(talk.texts[1]), bytes(talk.texts[2])), talk.too_much)


class _Talk:
    def __init__(
        self, control: socket.socket, channel: socket.socket, outputs: tuple[int, int], payload: bytes, most: int
    ) -> None:
        self.report: Ending | None = None
        self.texts = [bytearray(), bytearray(), bytearray()]
        self.too_much = False
        self._control, self._channel, self._most = control, channel, most
        self._sources: dict[int, int] = {channel.fileno(): 0, outputs[0]: 1, outputs[1]: 2}
        self._open = set(self._sources)
        self._to_send = memoryview(len(payload).to_bytes(8, "big") + payload)
        self._selector = selectors.DefaultSelector()
        channel.setblocking(False)
        self._selector.register(channel.fileno(), selectors.EVENT_READ | selectors.EVENT_WRITE, _CHANNEL)
        for output in outputs:
            os.set_blocking(output, False)
            self._selector.register(output, selectors.EVENT_READ)
        self._selector.register(control, selectors.EVENT_READ, _CONTROL)
        self._listening = True

    def run(self, until: float, wait: bool) -> None:
        while self._listening or (wait and self._open):
            left = until - time.monotonic()
            events = self._selector.select(left) if left > 0 else []
            if not events:
                return
            self._handle(events)
        # What was written before the end is still in the buffers.
        while self._open and (events := self._selector.select(0)):
            self._handle(events)

    def close(self) -> None:
        for descriptor in tuple(self._open):
            self._end(descriptor)
        self._selector.close()

    def _handle(self, events: list[tuple[selectors.SelectorKey, int]]) -> None:
        for key, ready in events:
            if key.data == _CONTROL:
                self._hear_report()
            elif key.fd in self._open:
                if ready & selectors.EVENT_WRITE:
                    self._send()
                if ready & selectors.EVENT_READ and key.fd in self._open:
                    self._read(key.fd)

    def _hear_report(self) -> None:
        self._selector.unregister(self._control)
        self._listening = False
        try:
            said = self._control.recv(_CHUNK)
        except ConnectionError:
            return
        if len(said) == ctypes.sizeof(Ending):  # anything else is no report, as if the sandbox had gone down
            report = Ending.from_buffer_copy(said)
            self.report = report if 0 <= report.stopped < len(STOPS) else None

    def _send(self) -> None:
        try:
            self._to_send = self._to_send[self._channel.send(self._to_send[:_CHUNK]) :]
        except BlockingIOError:
            return
        except OSError:  # the job is gone and will not read the rest
            self._to_send = self._to_send[:0]
        if not self._to_send:
            self._selector.modify(self._channel.fileno(), selectors.EVENT_READ, _CHANNEL)

    def _read(self, descriptor: int) -> None:
        text = self.texts[self._sources[descriptor]]
        try:
            part = os.read(descriptor, _CHUNK)
        except BlockingIOError:
            return
        except ConnectionError:
            part = b""
        text += part
        if len(text) > self._most:
            del text[self._most :]
            self.too_much = True
        if not part or self.too_much:
            self._end(descriptor)

    def _end(self, descriptor: int) -> None:
        """Stop reading from a descriptor; a job that goes on writing gets an error."""
        self._selector.unregister(descriptor)
        self._open.discard(descriptor)
        if descriptor == self._channel.fileno():
            self._channel.close()
        else:
            os.close(descriptor)
