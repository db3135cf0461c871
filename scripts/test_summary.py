"""Sum up the JUnit reports of the test groups: counts per group, skip reasons, failures, and one closing line.

Usage: test_summary.py REPORT...    (paths without .xml; a group that wrote no report counts as one failure)
"""

import sys
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path


def main(paths: list[str]) -> None:
    total: Counter[str] = Counter()
    for path in paths:
        group, report, count, skips = Path(path).name, Path(f"{path}.xml"), Counter(), Counter()
        if not report.is_file():
            print(f"{group}: ended without a report")
            total["failed"] += 1
            continue
        for case in ET.parse(report).getroot().iter("testcase"):
            outcome = next((child for child in case if child.tag in {"failure", "error", "skipped"}), None)
            kind = {None: "passed", "skipped": "skipped"}.get(outcome if outcome is None else outcome.tag, "failed")
            count[kind] += 1
            if kind == "skipped":
                skips[outcome.get("message", "")] += 1
            elif kind == "failed":
                print(f"{group}: FAILED {case.get('classname')}::{case.get('name')}")
        for reason, times in sorted(skips.items()):
            print(f"{group}: skipped {times}: {reason}")
        print(f"{group}: {count['passed']} passed, {count['failed']} failed, {count['skipped']} skipped")
        total += count
    print(f"{total['passed']} passed, {total['failed']} failed, {total['skipped']} skipped")


if __name__ == "__main__":
    main(sys.argv[1:])
