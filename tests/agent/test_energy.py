import os
import subprocess
import sys
from pathlib import Path

import pytest
from featherdesk.agent.energy import WATTS, EnergyMeter, cpu_seconds


def test_joules_come_from_the_processor_where_it_tells(tmp_path: Path) -> None:
    package = tmp_path / "intel-rapl:0"
    part = tmp_path / "intel-rapl:0:0"
    for folder in (package, part):
        folder.mkdir()
        (folder / "max_energy_range_uj").write_text("9999999")
        (folder / "energy_uj").write_text("9000000")
    meter = EnergyMeter(tmp_path)
    (package / "energy_uj").write_text("1000000")  # it started at 0 again
    (part / "energy_uj").write_text("500")
    assert meter.method.startswith("RAPL")
    assert meter.lap() == pytest.approx(2.0)
    assert meter.lap() == 0.0


def test_joules_are_an_estimate_where_the_processor_tells_nothing(tmp_path: Path) -> None:
    meter = EnergyMeter(tmp_path)
    sum(range(2_000_000))
    assert f"{WATTS:.0f} W" in meter.method
    assert meter.lap() > 0


def test_another_process_is_estimated_by_its_own_cpu_time() -> None:
    command = [sys.executable, "-c", "sum(range(10**8)); print(); input()"]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    meter = EnergyMeter(Path("nowhere"), child.pid)
    child.stdout.readline()  # type: ignore[union-attr]
    worked, own = meter.lap(), cpu_seconds(os.getpid())
    child.communicate(b"\n")
    assert worked > 0.05 * WATTS
    assert own > 0
    assert cpu_seconds(child.pid) == 0


def test_a_counter_that_may_not_be_read_is_no_counter(tmp_path: Path) -> None:
    folder = tmp_path / "intel-rapl:0"
    folder.mkdir()
    (folder / "max_energy_range_uj").write_text("9999999")
    assert "estimate" in EnergyMeter(tmp_path).method
