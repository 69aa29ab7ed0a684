"""A child that ends with its parent, whatever ends the parent."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from featherdesk.compress.served import serve_command
from featherdesk.compress.tether import tethered

_PARENT = """
import json, subprocess, sys
child = subprocess.Popen(json.loads(sys.argv[1]), stdin=subprocess.PIPE)
print(child.pid, flush=True)
child.wait()
"""
_WAITS = "print('runs', flush=True)\nimport time\ntime.sleep(600)\n"


def ended(process: psutil.Process) -> bool:
    try:
        process.wait(60)
    except psutil.TimeoutExpired:
        return False
    return True


@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_parent_leaves_no_child(tmp_path: Path, how: signal.Signals) -> None:
    (tmp_path / "waits.py").write_text(_WAITS)
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT, json.dumps(tethered("waits"))],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    with parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        assert parent.stdout.readline() == "runs\n"
        parent.send_signal(how)
    assert ended(child)


def test_a_child_that_ends_first_keeps_its_code_and_its_arguments(tmp_path: Path) -> None:
    (tmp_path / "ends.py").write_text("import sys\nsys.exit(f'{__name__} {sys.argv[1:]}')\n")
    child = subprocess.Popen(
        tethered("ends", "--port", "1"),
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    with child:
        assert child.stderr is not None
        assert child.stderr.read() == "__main__ ['--port', '1']\n"
    assert child.returncode == 1


def test_bots_are_served_on_a_tether(tmp_path: Path) -> None:
    whole = tethered("featherdesk.agent.cli", "serve", str(tmp_path))
    assert serve_command(tmp_path, 1)[: len(whole)] == whole
