"""The C library's allocator is the process's, so each case runs in one of its own."""

import os
import subprocess
import sys

import pytest

FAULTS = """
import resource
import sys
import numpy as np
from hvae_codec.utils.malloc import keep_freed_memory

if sys.argv[1] == "kept":
    print(keep_freed_memory())
else:
    print(False)

def step():
    arrays = [np.ones(2**20) for _ in range(4)]  # 8 MiB each

step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def run(how, **variables):
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_"))}
    command = [sys.executable, "-c", FAULTS, how]
    done = subprocess.run(
        command, env={**clean, **variables}, capture_output=True, text=True, check=True
    )
    worked, faults = done.stdout.split()
    return worked == "True", int(faults)


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt is glibc's")
def test_memory_freed_by_one_step_is_there_for_the_next():
    assert run("default")[1] > 10_000
    worked, faults = run("kept")
    assert worked
    assert faults < 3_000


def test_a_choice_in_the_environment_stands():
    assert run("kept", MALLOC_ARENA_MAX="2")[0] is False


TRIM = """
import resource
import numpy as np
from hvae_codec.utils.malloc import give_back_freed_memory, keep_freed_memory

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20

keep_freed_memory()
arrays = [np.ones(2**17) for _ in range(200)]  # 1 MiB each
del arrays
before = resident()
give_back_freed_memory()
print(before - resident())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="malloc_trim is glibc's")
def test_what_is_kept_can_be_given_back():
    done = subprocess.run(
        [sys.executable, "-c", TRIM], capture_output=True, text=True, check=True, timeout=240
    )
    assert float(done.stdout) > 150
