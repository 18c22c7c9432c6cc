import asyncio

from service.repeating import repeat


def test_what_nobody_expected_is_told_once_with_its_traceback_and_goes_on(caplog):
    tries = []

    async def work():
        tries.append(1)
        if len(tries) == 4:
            raise asyncio.CancelledError
        raise KeyError("a bug")

    async def scenario():
        await asyncio.gather(repeat(work, 0, "the work"), return_exceptions=True)

    asyncio.run(scenario())
    (told,) = caplog.records
    assert told.getMessage() == "the work failed, trying again: 'a bug'"
    assert told.exc_info[0] is KeyError
    assert len(tries) == 4
