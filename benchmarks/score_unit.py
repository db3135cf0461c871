#!/usr/bin/env python3
"""Seconds to score one unit, imports left out: vcb_score.py's own main, called twice in one process.

The first call warms the imports and compiled code, the second is measured. Truth and predictions come from a finished
run's work folder (the truth bundle is not published).

    .venv/bin/python benchmarks/score_unit.py --truth D.truth.h5ad --de D.de.parquet --predictions P.h5ad [P.h5ad ...]
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "bin"))

from vcbench.metrics.score import main as score


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--truth", required=True)
    parser.add_argument("--de", required=True)
    parser.add_argument("--predictions", required=True, nargs="+")
    parser.add_argument("more", nargs="*", metavar="OPTION", help="further options of vcb_score.py, after --")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        call = ["--truth", arguments.truth, "--de", arguments.de, "--seed", "0", *arguments.more]
        call += ["--out", f"{folder}/x.scores.parquet", "--predictions", *arguments.predictions]
        times = []
        for _ in range(2):
            start = time.perf_counter()
            if score(call) != 0:
                raise SystemExit("vcb_score failed")
            times.append(time.perf_counter() - start)
    units = len(arguments.predictions)
    print("units\tfirst_call_s\tsecond_call_s\tper_unit_s")
    print(f"{units}\t{times[0]:.2f}\t{times[1]:.2f}\t{times[1] / units:.3f}")


if __name__ == "__main__":
    main()
