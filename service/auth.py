"""API keys: which calls need one, and comparing them in constant time."""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING

from service.config import keys
from service.errors import UnauthorizedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from service.config import Settings

_BEARER = b"bearer "


class Guard:
    """Decides by a request's headers whether it may go on.

    A key comes as `Authorization: Bearer KEY` or `X-API-Key: KEY`.

    Args:
        api_keys: keys that every call needs; none leaves the calls open.
        admin_keys: keys that load and unload need; none lets the API keys do it, and where there
            are none of these either, load and unload are off.
    """

    def __init__(self, api_keys: Iterable[str] = (), admin_keys: Iterable[str] = ()) -> None:
        api, admin = _digests(api_keys), _digests(admin_keys)
        self._privileged = admin or api
        self._any = (*api, *admin) if api else ()

    def check(self, headers: Mapping[bytes, bytes], path: str) -> None:
        """Check any call.

        Args:
            headers: names in lower case.
            path: for the error.

        Raises:
            UnauthorizedError: keys are set, and the request carries none of them.
        """
        if self._any and not _matches(headers, self._any):
            raise UnauthorizedError(
                f"{path} needs an API key: send 'Authorization: Bearer KEY' or 'X-API-Key: KEY'"
            )

    def check_privileged(self, headers: Mapping[bytes, bytes]) -> None:
        """Check a call that loads or unloads models.

        Args:
            headers: names in lower case.

        Raises:
            UnauthorizedError: no key is set at all, or the request carries none of them.
        """
        if not self._privileged:
            raise UnauthorizedError(
                "load and unload are off: start the server with FLATFOLD_ADMIN_KEYS, and send one "
                "of them as 'Authorization: Bearer KEY'"
            )
        if not _matches(headers, self._privileged):
            raise UnauthorizedError(
                "load and unload need an admin key: send 'Authorization: Bearer KEY'"
            )


def check_privileged(settings: Settings, headers: Mapping[bytes, bytes]) -> None:
    """Check a call that loads or unloads models; rare, so that nothing is kept between calls.

    Raises:
        UnauthorizedError: no key is set at all, or the request carries none of them.
    """
    Guard(keys(settings.api_keys), keys(settings.admin_keys)).check_privileged(headers)


def _digests(keys: Iterable[str]) -> tuple[bytes, ...]:
    # A variable need not be UTF-8; its bytes, which Python keeps as surrogates, are what is sent.
    sent = (key.encode(errors="surrogateescape") for key in keys)
    return tuple(hashlib.sha256(key).digest() for key in sent)


def _matches(headers: Mapping[bytes, bytes], digests: tuple[bytes, ...]) -> bool:
    """Compare with every key, also after a match: the time taken tells nothing."""
    value = headers.get(b"authorization", b"")
    scheme, rest = value[: len(_BEARER)], value[len(_BEARER) :]
    key = rest.strip() if scheme.lower() == _BEARER else headers.get(b"x-api-key", b"")
    came = hashlib.sha256(key).digest()
    return any([hmac.compare_digest(came, digest) for digest in digests])  # noqa: C419 - no early end
