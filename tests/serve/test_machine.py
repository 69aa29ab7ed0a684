import os

from featherdesk.serve.machine import copy_gb_a_second, machine, peak_mb, resident_mb


def test_the_machine_tells_itself() -> None:
    told = machine()
    assert told.processor
    assert told.cores >= 1
    assert told.versions["featherdesk"]
    assert "torch" not in told.told()
    assert f"{told.cores} cores" in told.told()


def test_memory_of_a_process_is_read() -> None:
    assert 10 < resident_mb(os.getpid()) <= peak_mb(os.getpid())
    assert resident_mb(2**22 + 1) == 0.0


def test_memory_is_measured() -> None:
    assert copy_gb_a_second(2, 8) > 0
