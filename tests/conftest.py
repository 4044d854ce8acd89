"""All tests: one thread, the same random numbers each time, no network, and none of the user's own models and settings.

Tiny matrices are slower on two threads than on one, and far slower when another program uses the second core.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import tempfile

import pytest

from zaya_cli.terminal.interrupt import ENDING

pytest_plugins = ["tests.tiers"]

for _number in (signal.SIGINT, *ENDING):
    if signal.getsignal(_number) is signal.SIG_IGN:  # a program that a test starts would begin with it ignored, too
        signal.signal(_number, lambda *_: None)
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # a test's second thread shall not spin beside the other tests' process
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TRITON_INTERPRET", "1")  # before triton is imported; 0: kernels run on the card that is there
_HOME = tempfile.mkdtemp(prefix="zaya-tests-")
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)
os.environ |= {f"{kind}_HOME": _HOME for kind in ("HF", "XDG_CACHE", "XDG_CONFIG", "XDG_DATA", "XDG_STATE")}
for _name in [name for name in os.environ if name.startswith("ZAYA_")]:
    if _name not in ("ZAYA_TEST_MODEL", "ZAYA_KERNELS", "ZAYA_FUZZ_SECONDS"):
        del os.environ[_name]
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"


@pytest.fixture(autouse=True)
def _seeded() -> None:
    import torch  # only now that the threads are set

    torch.manual_seed(0)
