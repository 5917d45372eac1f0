"""A process that outlives its parent by a moment, to end what the parent started and could not end itself.

It reads one line for each thing that begins or ends (`pid+ 123`, `pid- 123`, `dir+ /tmp/x`, `dir- /tmp/x`). When its
input closes, the parent is gone, however it went: what is still on the list is killed and removed. This holds where
PR_SET_PDEATHSIG does not: on macOS, and when the *thread* that started a server ends before the process does.
"""

import os
import shutil
import signal
import sys
from contextlib import suppress


def main() -> None:
    """Follow the list until the input closes, then clear it."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    pids: set[int] = set()
    folders: set[str] = set()
    for line in sys.stdin:
        verb, _, what = line.rstrip("\n").partition(" ")
        match verb:
            case "pid+":
                pids.add(int(what))
            case "pid-":
                pids.discard(int(what))
            case "dir+":
                folders.add(what)
            case "dir-":
                folders.discard(what)
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
