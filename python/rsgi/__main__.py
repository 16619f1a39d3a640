"""The command `rsgi`, also as `python -m rsgi`."""

from __future__ import annotations

import signal
import sys

from rsgi._command import reader_command, worker_command
from rsgi._native import main as native_main


def main() -> int:
    """Run the command with the process's arguments and return its exit status."""
    # Python's own handler would raise KeyboardInterrupt after the supervisor has stopped everything
    # in order.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    return native_main(sys.argv[1:], worker_command(), reader_command())


if __name__ == "__main__":
    sys.exit(main())
