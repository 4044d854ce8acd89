"""All tests: one thread, no network.

Tiny matrices are slower on two threads than on one, and far slower when another program uses the second core.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
