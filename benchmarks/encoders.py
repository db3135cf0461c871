#!/usr/bin/env python3
"""Encoding variants of a 393-residue protein: this project's encoder, a naive loop, and the library's own batching.

Three ways, side by side, on random weights of published sizes (vectors are compared first, so all three do the same):
  ours     PlmEncoder: N + 1 passes for N variants, batches of equal lengths, only the rows that are needed leave
  naive    two passes per variant (mutant and wild type), one sequence at a time, as a loop over variants does it
  library  transformers' model on padded batches of N mutants and N references, nothing shared

Every measurement is a process of its own (peak memory), the ways take turns in every round, and the best round counts:
on a machine shared with other work the best is nearest to the truth. `of_floor` is the time of nothing but the matrix
products of the passes that are needed (N + 1), same shapes, in the same process, divided by the time taken; `of_peak`
has in its place what these products would take if each ran at the rate of the fastest one, which attention cannot.
With --cpu-time process CPU seconds count instead of wall seconds (use it with --threads 1 when others work too).

    .venv/bin/python benchmarks/encoders.py --encoders esm2_8m esm2_35m --variants 20
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "bin"), str(ROOT / "tests" / "python" / "encoders")]

WAYS = ("ours", "naive", "library")
RESIDUES = "ACDEFGHIKLMNPQRSTVWY"
LENGTH = 393  # of TP53
LIBRARY_BATCH = 8


def entry_of(name: str) -> dict:
    from vcbench.core.catalogue import load

    return load("encoders")["entries"][name]


def write_weights(name: str, folder: Path) -> None:
    """Write random weights of published size in the official layout, scaled so that activations stay of order 1."""
    import make_esm2

    sizes = entry_of(name)["architecture"]
    config = make_esm2.config(sizes["hidden_size"], sizes["num_hidden_layers"], sizes["num_attention_heads"])
    state = make_esm2.tensors(config)
    width = sizes["hidden_size"] // sizes["num_attention_heads"]
    for key in state:  # transformers takes exact rotary frequencies whatever the file says
        if key.endswith("inv_freq"):
            state[key] = 10000.0 ** (-make_esm2.torch.arange(0, width, 2) / width)
    make_esm2.write(folder / entry_of(name)["weights"]["folder"], config, state)


def protein() -> str:
    import random

    return "".join(random.Random(0).choices(RESIDUES, k=LENGTH))


def variants(sequence: str, count: int) -> list[tuple[int, str]]:
    """Return (1-based position, mutant residue), spread over the protein."""
    positions = [1 + index * (len(sequence) - 1) // max(count - 1, 1) for index in range(count)]
    return [(p, "A" if sequence[p - 1] != "A" else "G") for p in positions]


def flops(name: str) -> float:
    """Return the floating-point operations of the matrix products of a pass over the protein."""
    sizes, tokens = entry_of(name)["architecture"], LENGTH + 2
    width, inner = sizes["hidden_size"], sizes["intermediate_size"]
    per_layer = 2 * tokens * (4 * width * width + 2 * width * inner) + 4 * tokens * tokens * width
    return float(per_layer * sizes["num_hidden_layers"])


def prepare(way: str, name: str, folder: Path, count: int, batch_tokens: int) -> Callable:
    """Return a function that encodes all variants and gives (variants, 2, D): REF and ALT."""
    import numpy as np
    import torch

    sequence = protein()
    changes = variants(sequence, count)
    mutants = [sequence[: p - 1] + new + sequence[p:] for p, new in changes]
    if way == "ours":
        from vcbench.core.catalogue import load
        from vcbench.core.hashing import sha256_text
        from vcbench.core.settings import complete
        from vcbench.encoders import base
        from vcbench.encoders.requests import Request
        from vcbench.variants.record import Change

        entries = load("encoders")
        given = {"batch_tokens": batch_tokens} if batch_tokens else {}
        settings = complete(name, entry_of(name)["settings"], given, "benchmark")
        encoder = base.load(name, entries)(base.Context(name, entry_of(name), settings, folder))
        digest = sha256_text(sequence)
        requests = [
            Request(f"{digest}:{p}", ("TP53",), (Change(p, sequence[p - 1], new),), sequence, digest)
            for p, new in changes
        ]

        def ours() -> np.ndarray:
            encoded = encoder.encode(requests)
            return np.stack([encoded.ref, encoded.alt], axis=1)

        return ours

    from transformers import AutoTokenizer, EsmModel, logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    place = folder / entry_of(name)["weights"]["folder"]
    tokenizer = AutoTokenizer.from_pretrained(place, local_files_only=True)
    model = EsmModel.from_pretrained(place, add_pooling_layer=False, dtype=torch.float32, local_files_only=True).eval()

    def passes(sequences: list[str]) -> torch.Tensor:
        with torch.no_grad():
            return model(**tokenizer(sequences, return_tensors="pt", padding=True)).last_hidden_state

    def naive() -> np.ndarray:
        return np.stack(
            [
                np.stack([passes([text])[0, p].numpy() for text in (sequence, mutant)])
                for (p, _), mutant in zip(changes, mutants, strict=True)
            ]
        )

    def library() -> np.ndarray:
        texts = mutants + [sequence] * count
        states = torch.cat(
            [passes(texts[start : start + LIBRARY_BATCH]) for start in range(0, len(texts), LIBRARY_BATCH)]
        )
        rows = torch.arange(count)
        columns = torch.tensor([p for p, _ in changes])
        return torch.stack([states[count + rows, columns], states[rows, columns]], dim=1).numpy()

    return {"naive": naive, "library": library}[way]


def products(name: str, clock: Callable[[], float], repeats: int) -> tuple[float, float]:
    """Return the seconds that the matrix products of a pass take on their own, and the best rate of one (FLOP/s).

    Both are the best of ``repeats``; a layer stands for all.
    """
    import torch

    sizes, tokens = entry_of(name)["architecture"], LENGTH + 2
    width, inner, heads = sizes["hidden_size"], sizes["intermediate_size"], sizes["num_attention_heads"]
    linear = [(width, width)] * 4 + [(inner, width), (width, inner)]
    pairs = [(torch.randn(tokens, inside), torch.randn(out, inside)) for out, inside in linear]
    queries = torch.randn(heads, tokens, width // heads)
    weights = torch.randn(heads, tokens, tokens)
    steps = [(torch.nn.functional.linear, x, weight, 2 * tokens * weight.numel()) for x, weight in pairs]
    steps += [
        (torch.bmm, queries, queries.transpose(1, 2), 2 * tokens * tokens * width),
        (torch.bmm, weights, queries, 2 * tokens * tokens * width),
    ]
    seconds, fastest = [], 0.0
    with torch.inference_mode():
        for _ in range(repeats):
            total = 0.0
            for product, x, y, operations in steps:
                start = clock()
                product(x, y)
                spent = clock() - start
                total += spent
                fastest = max(fastest, operations / max(spent, 1e-9))
            seconds.append(total * sizes["num_hidden_layers"])
    return min(seconds), fastest


def work(options: argparse.Namespace) -> None:
    """Measure one way, once, in this process; print a line of JSON."""
    import numpy as np
    import torch

    torch.set_num_threads(options.threads)
    clock = time.process_time if options.cpu_time else time.perf_counter
    name = options.encoders[0]
    prepare(options.way, name, options.folder, 1, options.batch_tokens)()  # lazy imports, caches of the processor
    run = prepare(options.way, name, options.folder, options.variants, options.batch_tokens)
    start = clock()
    vectors = run()
    seconds = clock() - start
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    np.save(options.folder / f"{name}.{options.way}.npy", vectors)
    floor, rate = products(name, clock, 30)
    print(json.dumps({"seconds": seconds, "memory": memory / 2**20, "floor": floor, "rate": rate}))


def measure(name: str, options: argparse.Namespace) -> list[tuple[object, ...]]:
    """Return a row per way: the best of all rounds."""
    import numpy as np

    results: dict[str, list[dict[str, float]]] = {way: [] for way in options.ways}
    with tempfile.TemporaryDirectory() as folder:
        write_weights(name, Path(folder))
        for _ in range(options.rounds):
            for way in options.ways:
                call = [sys.executable, __file__, "--encoders", name, "--way", way, "--folder", folder]
                for option in ("variants", "threads", "batch_tokens"):
                    call += ["--" + option.replace("_", "-"), str(getattr(options, option))]
                call += ["--cpu-time"] * options.cpu_time
                done = subprocess.run(call, stdout=subprocess.PIPE, text=True, check=True)
                results[way].append(json.loads(done.stdout.splitlines()[-1]))
        vectors = {way: np.load(Path(folder) / f"{name}.{way}.npy") for way in options.ways}
    first = vectors[options.ways[0]]
    best = max(each["rate"] for found in results.values() for each in found)
    passes = options.variants + 1
    floor = passes * min(each["floor"] for found in results.values() for each in found)
    peak = passes * flops(name) / best
    rows = []
    for way, found in results.items():
        difference = float(np.abs(vectors[way] - first).max())
        if difference > 1e-4 * max(1.0, float(np.abs(first).max())):
            raise SystemExit(f"{name}: {way} gives other vectors than {options.ways[0]} (difference {difference:.2g})")
        seconds = min(each["seconds"] for each in found)
        rows.append(
            (
                name, way, f"{seconds / options.variants:.3f}", f"{floor / seconds:.0%}",
                f"{peak / seconds:.0%}", f"{max(each['memory'] for each in found):.2f}", f"{best / 1e9:.0f}",
                f"{difference:.1e}",
            )
        )  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoders", nargs="+", default=["esm2_8m", "esm2_35m", "esm2_150m"], metavar="NAME")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--variants", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch-tokens", type=int, default=0, help="of ours (0: the default of the catalogue)")
    parser.add_argument("--cpu-time", action="store_true", help="CPU seconds of the process instead of wall seconds")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        work(options)
        return
    print("encoder\tway\ts_per_variant\tof_floor\tof_peak\tpeak_GiB\tbest_GFLOP_per_s\tmax_difference")
    for name in options.encoders:
        for row in measure(name, options):
            print("\t".join(map(str, row)), flush=True)


if __name__ == "__main__":
    main()
