import pytest

from service.v2.shared_statistics import SharedStatistics, add_up
from tests.service import onnx_models
from tests.service.repositories import gain, repository

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


def entry(name="m", *, count, last, **batches):
    return {
        "name": name,
        "version": "1",
        "last_inference": last,
        "inference_count": count,
        "inference_stats": {"success": {"count": count, "ns": 10 * count}},
        "batch_stats": [
            {"batch_size": int(size[1:]), "compute_infer": {"count": n, "ns": n}}
            for size, n in batches.items()
        ],
    }


def test_totals_add_up_by_model_version_and_batch_size():
    own = [entry(count=1, last=5, b1=1), entry("other", count=7, last=1)]
    others = [entry(count=2, last=3, b1=1, b8=2), entry("gone", count=9, last=9)]
    assert add_up(own, others) == [entry(count=3, last=5, b1=2, b8=2), own[1]]
    assert own[0] == entry(count=1, last=5, b1=1)


async def two_workers(tmp_path):
    path = onnx_models.picture_classifier(tmp_path / "models/m.onnx")
    workers = []
    for name in ("1", "2"):
        models = repository(path)
        await models.open()
        workers.append((models, SharedStatistics(tmp_path, models, name)))
    return workers


async def test_what_one_worker_has_told_the_next_one_counts(tmp_path):
    (one, statistics_of_one), (_, statistics_of_two) = await two_workers(tmp_path)
    statistics_of_one.publish()
    gain(one.get())
    statistics_of_one.others()  # asked for the totals, it tells its own and these
    assert [each["inference_count"] for each in statistics_of_two.others()] == [1]


async def test_workers_read_each_others_totals(tmp_path):
    (one, statistics_of_one), (_, statistics_of_two) = await two_workers(tmp_path)
    for _ in range(3):
        gain(one.get())
    assert statistics_of_two.others() == []
    statistics_of_one.publish()
    (seen,) = statistics_of_two.others()
    assert (seen["inference_count"], seen["execution_count"]) == (3, 3)
    statistics_of_two.publish()
    assert [each["inference_count"] for each in statistics_of_one.others()] == [0]
