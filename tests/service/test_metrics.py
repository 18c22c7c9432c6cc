from service.metrics import SHARED_FOLDER, Metrics


class NoModels:
    def all(self):
        return []


def test_a_file_that_a_worker_is_just_creating_is_passed_over(tmp_path, monkeypatch):
    monkeypatch.setenv(SHARED_FOLDER, str(tmp_path))
    (tmp_path / "counter_1.db").touch()
    assert Metrics().exposition(NoModels(), 0) == b""
