import argparse

import pytest

from flatfold.contract.errors import UsageError
from service.config import Settings, add_flags, keys, load_settings


def parse(*words):
    parser = argparse.ArgumentParser()
    add_flags(parser)
    return vars(parser.parse_args(words))


def test_flag_beats_environment_beats_file_beats_default(tmp_path):
    path = tmp_path / "settings.toml"
    path.write_text("port = 1111\nmax_batch = 5\nworkers = 3\n")
    environment = {"FLATFOLD_PORT": "2222", "FLATFOLD_MAX_BATCH": "6"}
    seen = load_settings(parse("--port", "3333", "--config", str(path)), environment)
    assert (seen.port, seen.max_batch, seen.workers, seen.max_queue) == (3333, 6, 3, 256)


def test_every_setting_has_a_flag_and_a_variable():
    for name in vars(Settings()):
        value = {"choices": "x"}.get(name, "7")
        given = parse(value) if name == "models" else parse("--" + name.replace("_", "-"), value)
        assert given[name] in (value, [value])


def test_the_file_may_be_named_by_the_environment(tmp_path):
    path = tmp_path / "settings.toml"
    path.write_text('models = ["a.onnx", "b"]\n')
    assert load_settings({}, {"FLATFOLD_CONFIG": str(path)}).models == ("a.onnx", "b")


@pytest.mark.parametrize(
    ("given", "environment", "message"),
    [
        ({"port": "eighty"}, {}, r"--port must be a whole number, got 'eighty'"),
        ({"port": "99999"}, {}, r"--port must be between 0 and 65535, got 99999"),
        ({}, {"FLATFOLD_MAX_QUEUE": "0"}, r"\$FLATFOLD_MAX_QUEUE must be at least 1, got 0"),
        ({"timeout": "-1"}, {}, r"--timeout must be at least 0"),
        ({"timeout": "nan"}, {}, r"--timeout must be a number of seconds, got 'nan'"),
        ({"grace": "inf"}, {}, r"--grace must be a number of seconds, got 'inf'"),
        ({"host": ""}, {}, r"--host must not be empty"),
        ({"threads": "100000"}, {}, r"--threads must be between 0 and 1024, got 100000"),
        ({}, {"FLATFOLD_API_KEYS": ", "}, r"\$FLATFOLD_API_KEYS must hold at least one text"),
        ({"models": [""]}, {}, r"MODEL must be paths, none of them empty, got \[''\]"),
        ({"max_pixels": "200000000"}, {}, r"between 1 and 178956970, got 200000000"),
        ({"cors": "https://a, https://b/"}, {}, r"--cors must be origins .*; got 'https://b/'"),
        (
            {"cors": "example.com"},
            {},
            r"such as https://example.com:8443, or \*; got 'example.com'",
        ),
        ({"cors": "https://*.example.com"}, {}, r"--cors must be origins"),
        ({"cors": "HTTPS://Example.com"}, {}, r"--cors must be origins"),
        ({"log_format": "xml"}, {}, r"--log-format must be one of text, json"),
        ({"config": "/nowhere/x.toml"}, {}, r"cannot read the settings /nowhere/x\.toml"),
    ],
)
def test_a_wrong_value_names_where_it_came_from(given, environment, message):
    with pytest.raises(UsageError, match=message):
        load_settings(given, environment)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prot = 1", "unknown settings: prot"),
        ("port = ", "not TOML"),
        ("port = 1.5", "whole number"),
        ("port = [1]", r"port must be a whole number, got \[1\]"),
        ("grace = 1" + "0" * 400, "grace must be a number of seconds, got 1000"),
        ("grace = inf", "grace must be a number of seconds, got inf"),
        ("host = true", "host must be a text, got True"),
        ("labels = 5", "labels must be a text, got 5"),
        ('labels = ["a", "b"]', "labels must be a text, got "),
        ("models = 5", "models must be paths, none of them empty, got 5"),
        ("models = [5]", r"models must be paths, none of them empty, got \[5\]"),
        ("cors = [1]", r"cors must be texts without commas, got \[1\]"),
        ("admin_keys = true", "admin_keys must be texts without commas, got a bool"),
        ('api_keys = ["sesame,b"]', "api_keys must be texts without commas, got a list"),
        ('api_keys = [""]', "api_keys must be texts without commas, got a list"),
    ],
)
def test_a_wrong_file_is_told(tmp_path, text, message):
    path = tmp_path / "settings.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        load_settings({"config": path}, {})


def test_what_is_written_with_commas_may_be_a_list_in_the_file(tmp_path):
    path = tmp_path / "settings.toml"
    path.write_text('api_keys = ["alpha", "beta"]\ncors = "https://a, https://b"\nmodels = "a, b"')
    seen = load_settings({"config": path}, {})
    assert keys(seen.api_keys) == ("alpha", "beta")
    assert keys(seen.cors) == ("https://a", "https://b")
    assert seen.models == ("a", "b")


@pytest.mark.parametrize(
    "origin",
    ["*", "null", "http://localhost:3000", "http://[::1]:3000", "chrome-extension://abcdef"],
)
def test_any_origin_that_browsers_send_may_be_set(origin):
    assert load_settings({"cors": f"https://a.example, {origin}"}, {}).cors.endswith(origin)


def test_the_file_is_utf_8_with_or_without_a_mark(tmp_path):
    path = tmp_path / "settings.toml"
    for mark in (b"", b"\xef\xbb\xbf"):
        path.write_bytes(mark + 'default_model = "ü"'.encode())
        assert load_settings({"config": path}, {}).default_model == "ü"


def test_secrets_are_not_shown():
    shown = Settings(api_keys="sesame,other").shown()
    assert shown["api_keys"] == "2 keys"
    assert "sesame" not in str(shown)


def test_keys_are_split_and_trimmed():
    assert keys(" a, b ,,") == ("a", "b")
