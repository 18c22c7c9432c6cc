"""compose.yaml and deploy/ agree with each other, with the image and with the service's metrics."""

from __future__ import annotations

import io
import json
import re
import runpy
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from service.config import Settings
from tests import web
from tests.service.running import running

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
DASHBOARD = json.loads((ROOT / "deploy/grafana/dashboards/flatfold.json").read_text())


def load(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text())


@pytest.fixture(scope="module")
def compose() -> Any:
    return load("compose.yaml")


@pytest.fixture(scope="module")
def scraped() -> dict[str, set[str]]:
    """Each series of a real answer of /metrics after a good and a bad request, with its labels."""
    file = io.BytesIO()
    Image.new("RGB", (32, 32)).save(file, "PNG")
    with running(ROOT / "flatfold/models/cifar10.onnx") as server:
        client = web.Client(base_url=server.url)
        for body in (file.getvalue(), b"no picture"):
            client.post("/v1/classify", content=body)
        families = text_string_to_metric_families(client.get("/metrics").text)
        return {sample.name: set(sample.labels) for family in families for sample in family.samples}


def expressions() -> list[str]:
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]


def test_every_series_of_the_dashboard_is_in_a_real_scrape(scraped: dict[str, set[str]]) -> None:
    asked = set(re.findall(r"flatfold_\w+", " ".join(expressions())))
    assert asked
    assert asked <= set(scraped)


@pytest.mark.parametrize("expression", expressions())
def test_every_label_of_the_dashboard_is_in_a_real_scrape(
    expression: str, scraped: dict[str, set[str]]
) -> None:
    found = set.union(*(scraped[name] for name in re.findall(r"flatfold_\w+", expression)))
    grouped = ",".join(re.findall(r"by \(([^)]*)\)", expression))
    matched = re.findall(r"(\w+)(?:=~|!~|!=|=)\"", expression)
    asked = {name.strip() for name in grouped.split(",") if name.strip()} | set(matched)
    assert asked <= found


@pytest.mark.parametrize(
    "series",
    [
        "flatfold_requests_total",
        "flatfold_request_seconds_bucket",
        "flatfold_queue_rows",
        "flatfold_batch_size_bucket",
    ],
)
def test_the_dashboard_shows(series: str) -> None:
    assert any(series in expression for expression in expressions())


def test_the_dashboards_panels_do_not_overlap() -> None:
    cells: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        own = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not own & cells, panel["title"]
        assert max(x for x, _ in own) < 24
        cells |= own


def test_every_panel_reads_the_provisioned_data_source() -> None:
    (source,) = load("deploy/grafana/provisioning/datasources/prometheus.yml")["datasources"]
    used = {panel["datasource"]["uid"] for panel in DASHBOARD["panels"]}
    assert used == {source["uid"]}
    assert source["url"] == "http://prometheus:9090"


def test_prometheus_scrapes_the_service_where_compose_puts_it(compose: Any) -> None:
    (job,) = load("deploy/prometheus.yml")["scrape_configs"]
    (static,) = job["static_configs"]
    (target,) = static["targets"]
    host, port = target.split(":")
    assert host in compose["services"]
    assert f"FLATFOLD_PORT={port}" in DOCKERFILE


def test_compose_mounts_files_that_exist(compose: Any) -> None:
    for service in compose["services"].values():
        for volume in service.get("volumes", []):
            source = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", volume).split(":")[0]
            if source.startswith("."):
                assert (ROOT / source).exists(), source


def test_compose_runs_the_service_hardened_and_limited(compose: Any) -> None:
    service = compose["services"]["flatfold"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["restart"] == "unless-stopped"
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}


def test_compose_waits_longer_than_the_servers_grace(compose: Any) -> None:
    wait = compose["services"]["flatfold"]["stop_grace_period"]
    assert float(wait.removesuffix("s")) > Settings().grace


def test_the_image_sets_variables_that_are_settings() -> None:
    names = {name.lower() for name in re.findall(r"FLATFOLD_(\w+)=", DOCKERFILE)}
    assert names == {"host", "port", "models", "workers"}
    assert names <= set(Settings.__dataclass_fields__)


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", ""),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", "not ready: 'HTTP/1.1 503 "),
        (b"", "not ready: ''"),
    ],
)
def test_the_health_check_reads_the_status(answer: bytes, problem: str) -> None:
    healthcheck = runpy.run_path(str(ROOT / "deploy/healthcheck.py"))
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def reply() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1024)
                connection.sendall(answer)

        thread = threading.Thread(target=reply)
        thread.start()
        said = healthcheck["check"]("127.0.0.1", listener.getsockname()[1])
        thread.join()
    assert said.startswith(problem) if problem else said == ""


def test_the_build_context_leaves_everything_else_out() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    # One COPY takes all of it, so these rules alone say what the image gets.
    assert "COPY . /opt/app\n" in DOCKERFILE
    kept = {rule[1:] for rule in rules if rule.startswith("!")}
    scripts = {"deploy/flatfold", "deploy/healthcheck.py", "deploy/prune.py", "deploy/warm.py"}
    assert kept == {"flatfold", "service", "requirements/*.txt"} | scripts
