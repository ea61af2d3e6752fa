"""Processes that train together wait for one another, and notice when one of them has gone.

Before JAX connects them, each of the others opens a connection to the first process, at the address where JAX will
listen afterwards, and says its number; the first one says who is missing. The connections stay open. The system closes
those of a process that dies, whatever it dies of, and keep-alive packets find a machine that has gone: so each process
ends within seconds and in a sentence, where JAX would wait for a heartbeat that does not come, and abort.
"""

import atexit
import os
import select
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress

from cnnjax.train.output import Output

# Seconds: after which all must have come, between two lines about who has not, and that a process may outlive another.
TOGETHER_WITHIN = 300.0
TOLD_EVERY = 10.0
GRACE = 5.0

_GREETING = "cnnjax"
_CURE = "start the same command again in all of them: with --restartable it goes on from the newest checkpoint"


def meet(coordinator: str, count: int, number: int, *, bind: str | None = None) -> dict[int, socket.socket]:
    """Waits until all processes have come; returns open connections, by the number of the process at the other end.

    Args:
        coordinator: HOST:PORT of the first process.
        count: How many processes there are.
        number: Which of them this is, from 0.
        bind: HOST:PORT at which the first process listens, where it is not all addresses and the coordinator's port.

    Raises:
        ValueError: The address has no port, or another process has the same number or another count.
        TimeoutError: Not all have come in time; it says which.
        OSError: The first process cannot listen there.
    """
    host, _, port = (bind if bind and number == 0 else coordinator).rpartition(":")
    if not host or not port.isdigit():
        raise ValueError(f"coordinator={coordinator!r}; expected HOST:PORT, such as node1:1234")
    clock = _Clock(count, number)
    return (
        _receive(host if bind else "", int(port), clock) if number == 0 else _call(host.strip("[]"), int(port), clock)
    )


class Peers:
    """The connections of this process, and the thread that listens at them.

    Attributes:
        working: whether the others are needed; if not, they may end.
    """

    def __init__(self, links: dict[int, socket.socket], count: int, number: int):
        """Watches from now on, until the process ends."""
        self.working = True
        self._links = links
        self._count = count
        self._number = number
        for link in links.values():
            link.settimeout(None)
            link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            # Seconds of silence, seconds between two questions, questions without an answer.
            for name, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3)):
                if hasattr(socket, name):
                    link.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        threading.Thread(target=self._watch, name="other processes", daemon=True).start()
        # Runs before JAX's own, which waits for the others.
        atexit.register(self._tell, "bye")

    def _watch(self) -> None:
        links = dict(self._links)
        while links:
            ready = select.select(list(links.values()), [], [])[0]
            for other in [other for other, link in links.items() if link in ready]:
                told = _line(links[other])
                if told == "bye":
                    del links[other]
                    threading.Timer(GRACE, self._outlived, [other]).start()
                    continue
                gone = told.removeprefix("gone ") if told.startswith("gone ") else str(other)
                self._tell(f"gone {gone}")
                self._end(f"process {gone} of {self._count} has gone")
                return

    def _outlived(self, other: int) -> None:
        if self.working:
            self._tell(f"gone {other}")
            self._end(f"process {other} of {self._count} has ended before the others; see what it says")

    def _tell(self, text: str) -> None:
        if text == "bye":
            self.working = False
        for link in self._links.values():
            try:
                link.sendall(f"{text}\n".encode())
            except OSError:  # that one has gone, which is known
                continue

    def _end(self, what: str) -> None:
        """Leaves at once: whatever else this process has to do waits for the one that has gone."""
        _say(f"error: {what}, and none can go on without it; {_CURE}")
        os._exit(2)


class _Clock:
    """Says who is waited for, from time to time, and for how long."""

    def __init__(self, count: int, number: int):
        self.count = count
        self.number = number
        self._began = self._told = time.monotonic()

    def wait_for(self, others: str, *, tell: Callable[[str], None] = lambda text: None) -> None:
        """Notes that `others` have not come.

        Raises:
            TimeoutError: they have had their time.
        """
        now = time.monotonic()
        waited = now - self._began
        if waited > TOGETHER_WITHIN:
            raise TimeoutError(
                f"{others} of {self.count} did not come within {TOGETHER_WITHIN:.0f} s; start all {self.count} with one"
                " --devices.coordinator and --devices.num-processes, each with its own --devices.process-id"
            )
        if now - self._told >= TOLD_EVERY:
            self._told = now
            _say(f"process {self.number} of {self.count} waits for {others}, {waited:.0f} s so far")
            tell(others)


def _receive(host: str, port: int, clock: _Clock) -> dict[int, socket.socket]:
    """The first process: takes the calls of all others."""
    both = socket.has_dualstack_ipv6() and not host
    family = socket.AF_INET6 if both or ":" in host else socket.AF_INET
    met: dict[int, socket.socket] = {}

    def tell(others: str) -> None:
        for link in met.values():
            with suppress(OSError):  # it has gone, which is seen next
                link.sendall(f"wait {others}\n".encode())

    with ExitStack() as failing:
        server = failing.enter_context(
            socket.create_server((host.strip("[]"), port), family=family, dualstack_ipv6=both)
        )
        server.settimeout(0.5)
        failing.callback(lambda: [link.close() for link in met.values()])
        while missing := _missing(met, clock.count):
            clock.wait_for(_name(missing), tell=tell)
            try:
                link, _ = server.accept()
            except TimeoutError:
                continue
            link.settimeout(GRACE)
            other, _, theirs = _line(link).removeprefix(_GREETING).strip().partition(" of ")
            if not other.isdigit() or not theirs.isdigit():
                link.close()  # no process of ours
            elif int(theirs) != clock.count or not 0 < int(other) < clock.count or int(other) in met:
                taken = "is another with this number" if int(other) in met else f"are {clock.count} processes"
                link.sendall(f"no there {taken}\n".encode())
                link.close()
            else:
                met[int(other)] = link
        server.close()
        for link in met.values():
            link.sendall(b"go\n")
        failing.pop_all()
    return met


def _missing(met: dict[int, socket.socket], count: int) -> list[int]:
    """Who has not come, or has gone again, who is taken out of `met`."""
    for other in [other for other, link in met.items() if select.select([link], [], [], 0)[0]]:
        met.pop(other).close()  # it says nothing while it waits: it has gone, and may come again
    return [other for other in range(1, count) if other not in met]


def _call(host: str, port: int, clock: _Clock) -> dict[int, socket.socket]:
    """Another process: calls the first one until it answers that all have come."""
    others, where = "process 0", f"process 0 at {host}:{port}"
    while True:
        try:
            link = socket.create_connection((host, port), timeout=GRACE)
            link.sendall(f"{_GREETING} {clock.number} of {clock.count}\n".encode())
        except OSError as error:
            clock.wait_for(f"{where} ({error})")
            time.sleep(0.5)
            continue
        with ExitStack() as failing:
            failing.enter_context(link)
            while (told := _answer(link)) is None or told.startswith("wait "):
                others = told[5:] if told else others
                clock.wait_for(others)
            if told == "go":
                failing.pop_all()
                return {0: link}
            if told.startswith("no "):
                raise ValueError(
                    f"process_id={clock.number}, num_processes={clock.count}: {where} says {told[3:]}; give every"
                    " process its own --devices.process-id and the same --devices.num-processes"
                )
            clock.wait_for(f"{where} (something else answers)")
            time.sleep(0.5)


def _answer(link: socket.socket) -> str | None:
    """What the other end says, or None where it says nothing for a while."""
    return _line(link) if select.select([link], [], [], 0.5)[0] else None


def _line(link: socket.socket) -> str:
    """What the other end says up to the end of a line; what it has said, where it ends before."""
    said = b""
    while not said.endswith(b"\n") and len(said) < 200:
        try:
            one = link.recv(1)
        except OSError:  # it has gone, or stopped in the middle
            break
        if not one:
            break
        said += one
    return said.decode(errors="replace").strip()


def _name(numbers: Iterable[int]) -> str:
    numbers = list(numbers)
    return f"process {numbers[0]}" if len(numbers) == 1 else f"processes {', '.join(map(str, numbers))}"


def _say(text: str) -> None:
    if sys.stderr is not None:
        Output(sys.stderr).write(f"{text}\n")
