"""A check that never ends, with a program that it has started, as a compiler is."""

from __future__ import annotations

import subprocess
import sys
import time

from zaya_core.measure.card_check.protocol import end_with_parent, say_doing

if __name__ == "__main__":
    end_with_parent(60.0)
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    say_doing("the planted one")
    time.sleep(600)
