"""Processes that wait for one another and notice when one has gone: here they are threads, joined by real sockets."""

import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from cnnjax.train import peers
from cnnjax.train.peers import Peers, meet


@pytest.fixture
def address():
    """Where nobody listens yet."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return f"localhost:{free.getsockname()[1]}"


@pytest.fixture
def said(monkeypatch):
    """What is said, every twentieth of a second."""
    lines = []
    monkeypatch.setattr(peers, "TOLD_EVERY", 0.05)
    monkeypatch.setattr(peers, "_say", lines.append)
    return lines


@pytest.fixture
def ends(monkeypatch):
    """The exit codes of processes that leave at once, which they cannot here."""
    codes = []
    monkeypatch.setattr(peers.os, "_exit", codes.append)
    monkeypatch.setattr(peers.atexit, "register", lambda *arguments: None)
    monkeypatch.setattr(peers, "GRACE", 0.2)
    return codes


@pytest.fixture(autouse=True)
def closed():
    """Connections of a test, which are closed after it."""
    opened = []
    yield opened
    for link in opened:
        link.close()


def until(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert condition()


def all_of(address, count, closed):
    with ThreadPoolExecutor(count) as pool:
        links = list(pool.map(lambda number: meet(address, count, number), range(count)))
    closed += [link for of_one in links for link in of_one.values()]
    return links


def test_all_meet_and_are_joined_to_the_first(address, closed):
    links = all_of(address, 3, closed)
    assert [sorted(of_one) for of_one in links] == [[1, 2], [0], [0]]
    links[2][0].sendall(b"from 2")
    assert links[0][2].recv(10) == b"from 2"
    # JAX listens at the same address next.
    with socket.create_server(("localhost", int(address.split(":")[1]))):
        pass


def test_who_is_waited_for_is_said_by_all(address, closed, said):
    with ThreadPoolExecutor(3) as pool:
        second = pool.submit(meet, address, 3, 2)
        until(
            lambda: any(re.match(r"process 2 of 3 waits for process 0 at localhost:\d+ \(.*refused", s) for s in said)
        )
        first = pool.submit(meet, address, 3, 0)
        until(lambda: any(line.startswith("process 0 of 3 waits for process 1, ") for line in said))
        until(lambda: any(line.startswith("process 2 of 3 waits for process 1, ") for line in said))
        third = pool.submit(meet, address, 3, 1)
        closed += [link for one in (first, second, third) for link in one.result().values()]
    assert len(closed) == 4


def test_a_process_that_does_not_come_is_named_in_the_end(address, said, monkeypatch):
    monkeypatch.setattr(peers, "TOGETHER_WITHIN", 0.3)
    with pytest.raises(
        TimeoutError, match=r"processes 1, 2 of 3 did not come within 0 s; start all 3 with one --devices.coord"
    ):
        meet(address, 3, 0)
    with pytest.raises(TimeoutError, match=r"process 0 at localhost:\d+ \(.*refused.*\) of 3 did not come"):
        meet(address, 3, 1)


def test_numbers_that_do_not_fit_are_refused_and_strangers_ignored(address, closed, said):
    def call():
        return socket.create_connection(("localhost", int(address.split(":")[1])))

    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(meet, address, 3, 0)
        until(lambda: any("waits for processes 1, 2" in line for line in said))
        with call() as stranger:
            stranger.sendall(b"GET / HTTP/1.1\r\n")
        with call() as gone:  # it may come again
            gone.sendall(b"cnnjax 2 of 3\n")
        second = pool.submit(meet, address, 3, 1)
        until(lambda: any("waits for process 2," in line for line in said))
        with pytest.raises(
            ValueError, match=r"num_processes=4: process 0 at .* says there are 3 processes; give every"
        ):
            meet(address, 4, 3)
        with pytest.raises(ValueError, match=r"process_id=1, .* says there is another with this number"):
            meet(address, 3, 1)
        third = pool.submit(meet, address, 3, 2)
        closed += [link for one in (first, second, third) for link in one.result().values()]
    assert len(closed) == 4
    with pytest.raises(ValueError, match="coordinator='node1'; expected HOST:PORT"):
        meet("node1", 2, 1)


def test_all_end_when_one_has_gone(address, closed, said, ends):
    links = all_of(address, 3, closed)
    for number in (0, 2):
        Peers(links[number], 3, number)
    links[1][0].close()
    until(lambda: len(ends) == 2)
    assert ends == [2, 2]
    errors = [line for line in said if line.startswith("error: ")]
    assert {line.partition(",")[0] for line in errors} == {"error: process 1 of 3 has gone"}
    assert "start the same command again in all of them: with --restartable" in errors[0]


def test_one_that_ends_by_itself_ends_the_others_only_while_they_need_it(address, closed, said, ends):
    links = all_of(address, 3, closed)
    first, second = (Peers(links[number], 3, number) for number in (0, 1))
    first.working = False
    second._tell("bye")
    time.sleep(0.4)
    assert ends == []
    first.working = True
    links[2][0].sendall(b"bye\n")
    until(lambda: len(ends) == 2)
    assert any(line.startswith("error: process 2 of 3 has ended before the others; see what it") for line in said)
    assert links[2][0].recv(100) == b"gone 2\n"
