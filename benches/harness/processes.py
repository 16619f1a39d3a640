"""What Linux says about a process tree: CPU time, memory, connections. Reads /proc only."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
ESTABLISHED = "01"  # include/net/tcp_states.h


@dataclass(frozen=True)
class Process:
    """One process, as /proc/<pid>/stat has it."""

    pid: int
    parent: int
    cpu_seconds: float  # user and system, with that of children already waited for


def _read(pid: int) -> Process | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name is in parentheses and may hold anything; the fields after it are proc(5)'s 3, 4, ...
    fields = text.rpartition(")")[2].split()
    ticks = sum(int(field) for field in fields[11:15])
    return Process(pid, int(fields[1]), ticks / TICKS_PER_SECOND)


def tree(root: int) -> list[Process]:
    """Return the process and all its descendants that are alive, the root first."""
    found = [_read(int(entry)) for entry in os.listdir("/proc") if entry.isdigit()]
    everything = [process for process in found if process is not None]
    members = [process for process in everything if process.pid == root]
    for member in members:  # grows while it is walked
        members.extend(process for process in everything if process.parent == member.pid)
    return members


def cpu_seconds(root: int) -> float:
    """Return the user and system time of the whole tree."""
    return sum(process.cpu_seconds for process in tree(root))


def worker(root: int) -> int:
    """Return the process that does the work: the one that has used the most CPU time."""
    return max(tree(root), key=lambda process: process.cpu_seconds).pid


def pss_bytes(pid: int) -> int:
    """Return the memory of one process, pages that several share counted in equal parts."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = re.search(r"^Pss:\s+(\d+) kB$", rollup, re.MULTILINE)
    if found is None:
        raise RuntimeError("the kernel reports no Pss in smaps_rollup")
    return int(found[1]) * 1024


def tree_pss_bytes(root: int) -> int:
    """Return the memory of the whole tree."""
    return sum(pss_bytes(process.pid) for process in tree(root))


def _established(port: int) -> set[str]:
    """Return the socket inodes of the server's ends of the connections to a port."""
    inodes = set()
    local = f":{port:04X}"
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1].endswith(local) and fields[3] == ESTABLISHED:
            inodes.add(fields[9])
    return inodes - {"0"}  # not accepted yet


def _sockets(pid: int) -> set[str]:
    inodes = set()
    for entry in os.scandir(f"/proc/{pid}/fd"):
        try:
            target = os.readlink(entry.path)
        except FileNotFoundError:
            continue
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    return inodes


def connections(root: int, port: int) -> dict[int, int]:
    """Return how many accepted connections to a port each process of the tree holds."""
    established = _established(port)
    return {process.pid: len(_sockets(process.pid) & established) for process in tree(root)}
