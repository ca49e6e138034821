"""Numbers of a benchmark: statistics, the facts of the machine, the JSON file, the last line."""

import datetime
import json
import math
import os
import platform
import statistics
import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
RESULTS = REPOSITORY / "build" / "bench"


def statistics_of(samples):
    """Median, least and 90th percentile (nearest rank) of at least one sample."""
    ordered = sorted(samples)
    return {
        "runs": len(ordered),
        "median": statistics.median(ordered),
        "min": ordered[0],
        "p90": ordered[math.ceil(0.9 * len(ordered)) - 1],
    }


def machine_facts(versions):
    """Facts to judge the numbers by. `versions`: name -> argv; its first line is recorded."""
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": platform.release(),
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", ""),
        "load": os.getloadavg(),
        "commit": _first_line(["git", "-C", str(REPOSITORY), "describe", "--always", "--dirty"]),
        "versions": {name: _first_line(argv) for name, argv in versions.items()},
    }


def warn_if_busy():
    """Interleaving makes disturbance alike for all; it does not make it small."""
    load, cores = os.getloadavg()[0], len(os.sched_getaffinity(0))
    if load > cores / 2:
        print(f"warning: load {load:.1f} on {cores} cores: other work disturbs these numbers")


def write(name, machine, samples, ratios, **more):
    """Writes build/bench/NAME.json: raw samples and their statistics (ms unless the name says
    otherwise), the machine, the ratios ours / theirs. Returns the path."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}.json"
    document = {
        "name": name,
        "machine": machine,
        "ratios": {key: round(value, 4) for key, value in ratios.items()},
        "statistics": {key: statistics_of(values) for key, values in samples.items()},
        "medians": {key: statistics.median(values) for key, values in samples.items()},
        "samples": samples,
        **more,
    }
    path.write_text(json.dumps(document, indent=2) + "\n")
    return path


def print_samples(samples, unit="ms"):
    width = max(len(name) for name in samples)
    print(f"{'':{width}}  {'median':>8}  {'min':>8}  {'p90':>8}   {unit}")
    for name, values in samples.items():
        found = statistics_of(values)
        print(f"{name:{width}}  {found['median']:8.1f}  {found['min']:8.1f}  {found['p90']:8.1f}")


def ratios_line(ratios):
    """The last line of every benchmark."""
    pairs = " ".join(f"{name}={value:.3f}" for name, value in ratios.items())
    return f"ratios (ours / theirs): {pairs or 'none: a side was left out'}"


def _cpu_model():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("model name", "CPU part")):
            return line.partition(":")[2].strip()
    return platform.machine()


def _first_line(argv):
    try:
        done = subprocess.run(argv, capture_output=True, text=True)
    except OSError as error:
        return f"unknown: {error}"
    lines = (done.stdout + done.stderr).splitlines()
    return lines[0] if done.returncode == 0 and lines else "unknown"
