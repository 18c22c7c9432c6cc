import os

import pytest

from service.auth import Guard
from service.errors import UnauthorizedError


def bearer(key):
    return {b"authorization": b"Bearer " + key}


def admitted(check, *arguments) -> bool:
    try:
        check(*arguments)
    except UnauthorizedError:
        return False
    return True


@pytest.mark.parametrize(
    ("headers", "admits"),
    [
        (bearer(b"one"), True),
        (bearer(b"two"), True),
        ({b"authorization": b"bearer two"}, True),
        ({b"x-api-key": b"two"}, True),
        (bearer(b"admin"), True),
        ({}, False),
        (bearer(b""), False),
        (bearer(b"on"), False),
        (bearer(b"one,two"), False),
        ({b"authorization": b"one"}, False),
        ({b"authorization": b"Basic one"}, False),
        ({b"x-api-key": b"\xff"}, False),
    ],
)
def test_api_keys_guard_every_call(headers, admits):
    guard = Guard(["one", "two"], ["admin"])
    assert admitted(guard.check, headers, "/v2") == admits


def test_without_api_keys_calls_are_open_and_privileged_ones_off():
    guard = Guard()
    assert admitted(guard.check, {}, "/v2")
    with pytest.raises(
        UnauthorizedError, match="are off: start the server with FLATFOLD_ADMIN_KEYS"
    ):
        guard.check_privileged(bearer(b""))


def test_only_admin_keys_allow_privileged_calls_where_there_are_any():
    guard = Guard(["one"], ["admin"])
    assert admitted(guard.check_privileged, bearer(b"admin"))
    assert not admitted(guard.check_privileged, bearer(b"one"))
    assert admitted(Guard(["one"]).check_privileged, bearer(b"one"))
    assert admitted(Guard([], ["admin"]).check, {}, "/v2")


def test_the_refusal_says_what_to_send_and_keeps_the_keys_to_itself():
    with pytest.raises(UnauthorizedError, match="send 'Authorization: Bearer KEY'") as caught:
        Guard(["secret"]).check(bearer(b"guess"), "/v1/classify")
    assert "secret" not in str(caught.value)
    assert "guess" not in str(caught.value)


def test_a_key_need_not_be_utf_8():
    guard = Guard([os.fsdecode(b"ses\xe4m")])  # as os.environ gives it
    guard.check({b"x-api-key": b"ses\xe4m"}, "/")
    with pytest.raises(UnauthorizedError):
        guard.check({b"x-api-key": b"ses?m"}, "/")
