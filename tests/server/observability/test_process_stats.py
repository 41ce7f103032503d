"""What a server takes of the machine: all its processes, as the kernel has it."""

import asyncio
import os
import signal

import psutil
import pytest

from hvae_codec.server.engine.batch_worker import preparation
from hvae_codec.server.engine.coding_pool import CodingPool
from hvae_codec.server.observability.process_stats import ProcessStats
from tests.waiting import spin


def seconds_of(pids):
    return sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in pids)


@pytest.mark.parametrize("prepare", [None, preparation([])], ids=["coding alone", "with networks"])
def test_all_processes_count_and_those_that_ended(prepare):
    async def main():
        processes = CodingPool(2, prepare)
        await processes.start()
        usage = ProcessStats()
        try:
            assert usage.figures() == {}
            pids = processes.pids
            parents = {psutil.Process(pid).ppid() for pid in pids}
            every = {os.getpid(), *pids, *parents}
            least = seconds_of(every)
            usage.look(pids)
            first = usage.figures()
            assert least - 0.1 <= first["cpu_seconds_total"] <= seconds_of(every) + 0.1
            whole = [psutil.Process(pid).memory_full_info() for pid in every]
            assert first["memory_bytes"] == pytest.approx(sum(one.pss for one in whole), rel=0.1)

            await processes.run(spin, 0.5)
            usage.look(processes.pids)
            second = usage.figures()
            assert second["cpu_seconds_total"] >= first["cpu_seconds_total"] + 0.4

            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            await processes.run(spin, 0.0)
            usage.look(processes.pids)
            third = usage.figures()
            assert third["cpu_seconds_total"] >= second["cpu_seconds_total"]
        finally:
            await asyncio.to_thread(processes.stop)

    asyncio.run(main())


def test_numbers_of_processes_that_are_gone_are_passed_over():
    usage = ProcessStats()
    usage.look([2**22 + 1])  # beyond the greatest there is
    assert usage.figures()["memory_bytes"] > 0
