"""httpx's calls, with a time-out that a test on a busy machine does not reach."""

from functools import partial

import httpx

SECONDS = 60

get = partial(httpx.get, timeout=SECONDS)
post = partial(httpx.post, timeout=SECONDS)
Client = partial(httpx.Client, timeout=SECONDS)
