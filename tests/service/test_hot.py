import pytest

from service import routes
from service.hot import find_hot
from service.v2 import router as v2

DOCUMENTED = [
    *routes.router.routes,
    *(route for route in v2.router.routes if route.endpoint is v2.infer_route),
]


@pytest.mark.parametrize("route", DOCUMENTED, ids=lambda route: route.path)
def test_a_route_that_only_documents_is_answered_before_the_framework(route):
    path = route.path_format.format(model="dogs", version="2")
    for method in route.methods:
        template, _ = find_hot(method, path)
        assert template == route.path


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/classify"),
        ("POST", "/v1/classify/"),
        ("GET", "/v2/models/dogs/infer"),
        ("POST", "/v2/models/dogs/versions/infer"),
        ("POST", "/v2/models/dogs/2/3/infer"),
    ],
)
def test_what_no_hot_route_takes_is_the_frameworks(method, path):
    assert find_hot(method, path) is None
