import asyncio
import contextlib
import json
import socket
import threading

import pytest
import uvicorn
from uvicorn.server import ServerState

from service.protocol import MAX_HEAD, MAX_PIPELINED, PatientProtocol

SECONDS = 60
BODY = b"GET /other HTTP/1.1\r\nhost: x\r\n\r\n"  # a body that would pass for a request
CLOSE = b"connection: close"
GET = b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n"
CHUNKED = b"POST /here HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
OFFER = b"connection: upgrade, http2-settings\r\nupgrade: h2c"


class Echo:
    """Answers each request with its path and its body."""

    def __init__(self):
        self.began = threading.Event()
        self.go = asyncio.Event()
        self.go.set()

    async def __call__(self, scope, receive, send):
        self.began.set()
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body, more = body + message["body"], message["more_body"]
        await self.go.wait()
        answer = json.dumps([scope["path"], body.decode()]).encode()
        head = [(b"content-length", b"%d" % len(answer))]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": answer})


def talk(app, *parts, end=False, **attributes):
    """Send the parts, each after the first once the app has begun; return all that comes.

    With `end` the client closes its sending half, too.
    """

    def client(port):
        with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as connection:
            for index, part in enumerate(parts):
                assert index == 0 or app.began.wait(SECONDS)
                with contextlib.suppress(ConnectionError):  # it does not have to hear us out
                    connection.sendall(part)
            if end:
                connection.shutdown(socket.SHUT_WR)
            return b"".join(received(connection))

    async def run():
        protocol = type("Protocol", (PatientProtocol,), attributes)
        config = uvicorn.Config(app, ws="none", lifespan="off", log_config=None)
        config.load()
        server = await asyncio.get_running_loop().create_server(
            lambda: protocol(config, ServerState(), {}), "127.0.0.1", 0
        )
        async with server:
            return await asyncio.to_thread(client, server.sockets[0].getsockname()[1])

    return asyncio.run(run())


def received(connection):
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65_536):
            yield part


def error(answer):
    """Return the status and the error of the one answer that came."""
    assert answer.count(b"HTTP/1.1 ") == 1
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/json" in head
    assert b"connection: close" in head
    return int(head.split()[1]), json.loads(body)


def post(body, *lines):
    head = [b"POST /here HTTP/1.1", b"host: x", b"content-length: %d" % len(body), *lines]
    return b"\r\n".join([*head, b"", b""])


@pytest.mark.parametrize(
    "parts",
    [
        [post(BODY, OFFER, CLOSE) + BODY],
        [post(BODY, OFFER, CLOSE), BODY],
        [post(BODY, OFFER, b"expect: 100-continue", CLOSE), BODY],
        [
            CHUNKED.replace(b"\r\n", b"\r\n" + OFFER + b"\r\n" + CLOSE + b"\r\n", 1)
            + b"%x\r\n" % len(BODY)
            + BODY,
            b"\r\n0\r\n\r\n",
        ],
        [post(BODY, OFFER).replace(b"/1.1", b"/1.0"), BODY],
    ],
    ids=["together", "later", "expected", "chunked", "1.0"],
)
def test_an_upgrade_is_passed_over_and_the_body_stays_a_body(parts):
    answer = talk(Echo(), *parts)
    assert answer.count(b" 200 OK") == 1
    assert json.loads(answer.rpartition(b"\r\n\r\n")[2]) == ["/here", BODY.decode()]


def test_requests_behind_an_upgrade_are_answered_in_turn():
    several = post(b"one", OFFER) + b"one" + post(b"two", OFFER) + b"two" + post(b"", CLOSE)
    answers = talk(Echo(), several)
    assert answers.count(b" 200 OK") == 3
    assert answers.index(b'"one"') < answers.index(b'"two"') < answers.index(b'""')


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01 what TLS begins with\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"CONNECT x:80 HTTP/1.1\r\nhost: x\r\n\r\n",
        CHUNKED + b"no number\r\n",
    ],
)
def test_what_is_not_http_is_told_in_the_one_shape(sent):
    status, told = error(talk(Echo(), sent))
    assert (status, told["code"]) == (400, "bad_request")
    assert "HTTP/1.1" in told["error"]


@pytest.mark.parametrize(
    "begun", [b"GET / HTTP/1.1\r\n", CHUNKED + b"0\r\n"], ids=["head", "trailers"]
)
@pytest.mark.parametrize("line", [b"x: " + b"y" * 1000 + b"\r\n", b"y" * 1000], ids=["many", "one"])
def test_a_head_without_end_is_refused(begun, line):
    status, told = error(talk(Echo(), begun + line * 1000))  # more than one read takes
    assert (status, told["code"]) == (431, "head_too_large")
    assert str(MAX_HEAD) in told["error"]


@pytest.mark.parametrize("offer", [b"", OFFER + b"\r\n"], ids=["plain", "upgrade"])
@pytest.mark.parametrize(("more", "status"), [(-200, 200), (200, 431)])
def test_the_limit_of_a_head_holds_for_one_that_is_whole(more, status, offer):
    line = b"x: " + b"y" * (MAX_HEAD + more) + b"\r\n"
    answer = talk(Echo(), GET.replace(b"connection", offer + line + b"connection"))
    assert answer.startswith(b"HTTP/1.1 %d " % status)


BIG = b"x" * (10 * MAX_HEAD)  # more than one read takes


@pytest.mark.parametrize(
    "parts",
    [
        [post(BIG, CLOSE) + BIG],
        [post(b"") + post(BIG, CLOSE)[:9], post(BIG, CLOSE)[9:] + BIG],
        [CHUNKED + b"%x\r\n" % len(BIG) + BIG + b"\r\n0\r\nx: trailer\r\n\r\n" + GET],
    ],
    ids=["length", "a head in two parts", "chunked"],
)
def test_a_body_is_no_part_of_a_head(parts):
    assert BIG in talk(Echo(), *parts)


def test_a_head_that_does_not_come_in_time_is_told():
    status, told = error(talk(Echo(), b"GET / HT", header_timeout=0.05))
    assert (status, told["code"]) == (408, "request_timeout")


def test_an_answer_that_is_owed_comes_before_the_end():
    app = Echo()
    app.go.clear()

    def refuse(self, error):
        PatientProtocol._refuse(self, error)
        app.go.set()

    answer = talk(app, post(b"one") + b"one" + b"GET / HT", header_timeout=0.05, _refuse=refuse)
    assert answer.count(b"HTTP/1.1 ") == 1
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close" in head
    assert json.loads(body) == ["/here", "one"]


@pytest.mark.parametrize("sent", [post(b"one") + b"one", (post(b"one") + b"one") * 3])
def test_a_client_that_has_closed_its_half_is_answered(sent):
    app = Echo()
    app.go.clear()

    def eof_received(self):
        app.go.set()  # nothing was answered before
        return PatientProtocol.eof_received(self)

    answers = talk(app, sent, end=True, eof_received=eof_received)
    assert answers.count(b'["/here", "one"]') == sent.count(b"POST")
    assert answers.count(b"connection: close") == 1


def test_without_keep_alive_an_answer_says_that_it_is_the_last():
    def connection_made(self, transport):
        PatientProtocol.connection_made(self, transport)
        self.timeout_keep_alive = 0

    answer = talk(Echo(), post(b"one") + b"one", connection_made=connection_made)
    assert b"connection: close" in answer
    assert answer.endswith(b'["/here", "one"]')


@pytest.mark.parametrize(
    "sent", [b"", b"POST /here HTT", post(b"one") + b"on", CHUNKED + b"1\r\nx"]
)
def test_a_client_that_ends_before_its_request_does_is_gone(sent):
    assert talk(Echo(), sent, end=True) == b""


def test_every_request_of_a_client_that_left_is_told():
    heard = []

    async def app(scope, receive, send):
        await receive()
        heard.append((await receive())["type"])

    talk(app, post(b"one") + b"one" + post(b"two") + b"t", end=True)
    assert heard == ["http.disconnect"]


def test_a_client_that_takes_nothing_of_its_answer_is_cut_off():
    whole = bytes(64 * 1024 * 1024)  # more than the kernel takes on both sides

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": whole})

    def connection_lost(self, exc):
        PatientProtocol.connection_lost(self, exc)
        app.began.set()  # only now the client begins to read

    app.began = threading.Event()
    answer = talk(app, GET, b"", header_timeout=0.05, connection_lost=connection_lost)
    assert 0 < len(answer) < len(whole)


def test_of_too_many_requests_at_once_those_that_came_first_are_answered(caplog):
    caplog.set_level("INFO", "service.protocol")
    answers = talk(Echo(), post(b"") * (2 * MAX_PIPELINED))
    assert answers.count(b" 200 OK") == MAX_PIPELINED + 1  # one ran, the others waited behind it
    assert answers.count(b"connection: close") == 1
    assert f"429, more than {MAX_PIPELINED} requests" in caplog.text


@pytest.mark.parametrize("more", [b"1\r\nx", b"1\r\n", b"0\r\n\r\n", b"0\r\n\r\n\r\n"])
def test_what_comes_behind_an_answer_keeps_no_connection_open(more):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"at once"})

    def connection_made(self, transport):
        PatientProtocol.connection_made(self, transport)
        self.timeout_keep_alive = 0.05

    def on_response_complete(self):
        PatientProtocol.on_response_complete(self)
        app.began.set()  # the client goes on

    app.began = threading.Event()
    methods = {"connection_made": connection_made, "on_response_complete": on_response_complete}
    assert b"at once" in talk(app, CHUNKED, more, **methods)
