#!/usr/bin/env python3
"""Share of a run's wall time that is not the critical path's own work: the cost of the engine itself.

Reads an execution trace (results/pipeline_info/execution_trace_*.txt). Wall time is from the first submission to the
last completion. The trace holds no edges, so the critical path is followed backwards in time: from the task that ended
last to the one that ended last before that was submitted (what it waited for: its input, or a free core), and so on.
overhead = (wall - sum of the run times on that path) / wall; it holds submitting, staging, collecting and waiting.
The engine's own start and end are outside the trace; give the whole command's seconds with --wall to count them too.

    .venv/bin/python benchmarks/engine_overhead.py results/pipeline_info/execution_trace_*.txt [--wall 201.5]
"""

import argparse
import csv
import re
from collections import defaultdict
from datetime import datetime
from pathlib import Path

UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def duration(text: str) -> float:
    """Seconds of a duration as Nextflow prints it, such as '1m 3s' or '850ms'."""
    parts = re.findall(r"([\d.]+)(ms|s|m|h|d)\b", text)
    if not parts:
        raise SystemExit(f"not a duration: {text!r}")
    return sum(float(number) * UNITS[unit] for number, unit in parts)


def critical_path(tasks: list[dict]) -> list[dict]:
    """The tasks that each waited for the one before it, ending with the task that ended last."""
    path = [max(tasks, key=lambda task: task["complete"])]
    while earlier := [task for task in tasks if task["complete"] <= path[0]["submit"]]:
        path.insert(0, max(earlier, key=lambda task: task["complete"]))
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trace", type=Path)
    parser.add_argument("--wall", type=float, help="seconds of the whole command, engine start included")
    arguments = parser.parse_args()
    with arguments.trace.open(newline="") as handle:
        rows = [row for row in csv.DictReader(handle, delimiter="\t") if row["status"] == "COMPLETED"]
    if not rows:
        raise SystemExit(f"{arguments.trace}: no completed task")
    tasks = [
        {
            "process": row["process"].rsplit(":", 1)[-1],
            "submit": datetime.fromisoformat(row["submit"]).timestamp(),
            "complete": datetime.fromisoformat(row["complete"]).timestamp(),
            "seconds": duration(row["realtime"]),
        }
        for row in rows
    ]
    by_process = defaultdict(list)
    for task in tasks:
        by_process[task["process"]].append(task["seconds"])
    wall = arguments.wall or max(task["complete"] for task in tasks) - min(task["submit"] for task in tasks)
    path = critical_path(tasks)
    critical = sum(task["seconds"] for task in path)
    print(f"tasks\t{len(tasks)}")
    print(f"wall_s\t{wall:.1f}")
    print(f"task_seconds\t{sum(task['seconds'] for task in tasks):.1f}")
    print(f"critical_path_s\t{critical:.1f}")
    print(f"overhead_percent\t{100 * (wall - critical) / wall:.1f}")
    print(f"critical_path\t{' '.join(task['process'] for task in path)}")
    print("process\ttasks\tseconds\tlongest_s")
    for process, times in sorted(by_process.items(), key=lambda item: -sum(item[1])):
        print(f"{process}\t{len(times)}\t{sum(times):.1f}\t{max(times):.1f}")


if __name__ == "__main__":
    main()
