"""A process that was forked after a network had computed goes on to compute."""

import os
import subprocess
import sys

import pytest

PARENT = """
import os, sys
import torch
import enlca

torch.set_num_threads(2)
upscaler = enlca.Upscaler(sys.argv[1], device="cpu", precision="fp32")
lr = torch.rand(1, 3, 40, 40, generator=torch.Generator().manual_seed(0))
expected = upscaler(lr)
child = os.fork()
if not child:
    same = torch.allclose(upscaler(lr), expected, atol=1e-5)
    os._exit(0 if same and torch.get_num_threads() == 1 else 3)
assert torch.get_num_threads() == 2
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_fork_computes_the_same_by_one_thread_and_its_parent_keeps_its_own(tiny_model):
    program = [sys.executable, "-c", PARENT, str(tiny_model)]
    with subprocess.Popen(program, stderr=subprocess.PIPE, text=True, start_new_session=True) as parent:
        try:
            _, err = parent.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(parent.pid, 9)
            pytest.fail("the fork hangs")
    assert parent.returncode == 0, err
