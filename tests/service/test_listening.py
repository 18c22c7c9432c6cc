import pytest

from flatfold.contract.errors import FlatfoldError
from service.listening import bind


def test_a_port_is_taken_as_soon_as_it_is_bound():
    with bind("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(
            FlatfoldError, match=f"cannot listen on 127.0.0.1:{port}.*another --port"
        ):
            bind("127.0.0.1", port)
