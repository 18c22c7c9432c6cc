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
        ({"timeout": "nan"}, {}, r"--timeout must be at least 0"),
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
    ],
)
def test_a_wrong_file_is_told(tmp_path, text, message):
    path = tmp_path / "settings.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        load_settings({"config": path}, {})


def test_secrets_are_not_shown():
    shown = Settings(api_keys="sesame,other").shown()
    assert shown["api_keys"] == "2 keys"
    assert "sesame" not in str(shown)


def test_keys_are_split_and_trimmed():
    assert keys(" a, b ,,") == ("a", "b")
