import asyncio
import errno
import socket
import sys
from time import monotonic

import pytest

from service.dealing import Dealer
from service.listening import bind, refuse_new


class Desk:
    """A taker with room for so many connections."""

    def __init__(self, room=1000):
        self.room = room
        self.taken = []

    def give(self, connection):
        if len(self.taken) >= self.room:
            return False
        self.taken.append(connection.dup())
        return True


@pytest.fixture
def listener():
    with bind("127.0.0.1", 0) as made:
        yield made


def connect(listener):
    return socket.create_connection(listener.getsockname(), timeout=60)


async def until(reached):
    async with asyncio.timeout(60):
        while not reached():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def end(dealer, *desks):
    await dealer.finish(monotonic() + 20)
    for desk in desks:
        for connection in desk.taken:
            connection.close()


def test_connections_are_dealt_out_in_turn(listener):
    async def scenario():
        desks = [Desk(), Desk(), Desk()]
        dealer = Dealer(listener, desks)
        dealer.start()
        clients = [connect(listener) for _ in range(9)]
        await until(lambda: sum(len(desk.taken) for desk in desks) == 9)
        counts = [len(desk.taken) for desk in desks]
        await end(dealer, *desks)
        for client in clients:
            client.close()
        return counts

    assert asyncio.run(scenario()) == [3, 3, 3]


def test_whoever_came_before_the_end_is_dealt_out(listener):
    async def scenario():
        desk = Desk()
        dealer = Dealer(listener, [desk])
        dealer.start()
        clients = [connect(listener) for _ in range(20)]  # nothing has run in the loop since
        await end(dealer, desk)
        for client in clients:
            client.close()
        return len(desk.taken)

    assert asyncio.run(scenario()) == 20


def test_what_nobody_has_room_for_waits(listener):
    async def scenario():
        full, other = Desk(room=2), Desk(room=0)
        dealer = Dealer(listener, [full, other])
        dealer.start()
        clients = [connect(listener) for _ in range(6)]
        await until(lambda: len(full.taken) == 2)
        other.room = 4
        await until(lambda: len(other.taken) == 4)
        for client, served in zip(clients[2:], other.taken, strict=True):
            served.sendall(b"here")
            assert client.recv(4) == b"here"
        await end(dealer, full, other)
        for client in clients:
            client.close()

    asyncio.run(scenario())


def test_the_end_waits_for_room_until_its_time_is_over(listener):
    async def scenario():
        desk = Desk(room=0)
        dealer = Dealer(listener, [desk])
        dealer.start()
        with connect(listener) as client:
            finishing = asyncio.create_task(dealer.finish(monotonic() + 20))
            await until(lambda: dealer._held is not None)
            desk.room = 1
            await finishing
            assert len(desk.taken) == 1
            desk.taken[0].sendall(b"here")
            assert client.recv(4) == b"here"
            desk.taken[0].close()

    asyncio.run(scenario())


def test_accepting_goes_on_after_too_many_open_files(listener, monkeypatch, caplog):
    class Short:
        """The listener, once out of file descriptors."""

        failed = False

        def accept(self):
            if not self.failed:
                self.failed = True
                raise OSError(errno.EMFILE, "Too many open files")
            return listener.accept()

        def __getattr__(self, name):
            return getattr(listener, name)

    monkeypatch.setattr("service.dealing.ACCEPT_PAUSE", 0.001)

    async def scenario():
        desk = Desk()
        dealer = Dealer(Short(), [desk])
        dealer.start()
        with connect(listener):
            await until(lambda: desk.taken)
        await end(dealer, desk)

    asyncio.run(scenario())
    assert "Too many open files" in caplog.text


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux filters what a socket hears")
def test_no_new_connection_begins_and_older_ones_arrive(listener):
    with connect(listener) as early:
        refuse_new(listener)
        with pytest.raises(TimeoutError):
            socket.create_connection(listener.getsockname(), timeout=0.3)
        early.sendall(b"here")
        connection, _ = listener.accept()
        connection.setblocking(True)
        with connection:
            assert connection.recv(4) == b"here"
            connection.sendall(b"there")
        assert early.recv(5) == b"there"
