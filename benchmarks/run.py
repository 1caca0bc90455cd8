"""Every benchmark of the project, one after the other: ``make bench``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent

if __name__ == "__main__":
    for script in ("tracing.py", "simulating.py", "energy_law.py", "sweeping.py", "measuring.py"):
        print(f"== benchmarks/{script}", flush=True)
        subprocess.run([sys.executable, str(HERE / script)], check=True)
