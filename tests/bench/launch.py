"""How long `mpilaunch hello -n 8` takes, against what people use today. `./dev bench launch`.

Everything runs on one bed of hosts, sshd and agents idle side by side, and every round runs every
contender once, in an order drawn anew: what disturbs the machine disturbs all alike. A sample is
the wall time of the whole command on the frontend, entering its namespaces included (about 2 ms,
the same for all). A run whose output is not eight Hello lines from the right hosts fails the
benchmark.

The ssh contenders find hello on every worker already and a hostfile already typed; mpilaunch finds
out its hosts itself and checks before every run that each worker holds the right hello.
"""

import argparse
import random
import re
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter, defaultdict

import mpilaunch_cluster
import report
import sshd
from bed import BUILD, SHARED, Bed, BedError

RANKS = 8
AS_ROOT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
LEAN = ["--mca", "pml", "ob1", "--mca", "btl", "tcp,self,vader"]
OVER_CONTROL_MASTER = ["--mca", "plm_rsh_agent", sshd.CONTROL_MASTER_AGENT]

HELLO_ON_HOSTS = ["--hostfile", "hostfile", "-n", str(RANKS), "./hello"]
HELLO_HERE = ["--oversubscribe", "-n", str(RANKS), "./hello"]


def contenders(mpilaunch):
    """Contender -> its command on the frontend. `floor` starts all ranks on the frontend itself."""
    return {
        "ssh": ["mpirun", *HELLO_ON_HOSTS],
        "ssh_lean": ["mpirun", *LEAN, *HELLO_ON_HOSTS],
        "controlmaster": ["mpirun", *OVER_CONTROL_MASTER, *HELLO_ON_HOSTS],
        "controlmaster_lean": ["mpirun", *OVER_CONTROL_MASTER, *LEAN, *HELLO_ON_HOSTS],
        "floor": ["mpirun", *LEAN, *HELLO_HERE],
        "floor_shipped": ["mpirun", *HELLO_HERE],
        "ours": [mpilaunch, "hello", "-n", str(RANKS)],
    }


CONTENDERS = contenders(f"{BUILD}/bin/mpilaunch")
RATIOS = ["ssh", "controlmaster_lean", "floor"]  # ours / each of these, per number of workers


def phases_command(mpilaunch):
    return [mpilaunch, "-v", "timed_hello", "-n", str(RANKS)]


PHASES_COMMAND = phases_command(f"{BUILD}/bin/mpilaunch")

HELLO = re.compile(r"Hello world! I am process number: (\d+) on host (\S+)")
TIMED = re.compile(r"timed (\d+) (\d+) (\d+)")
PHASE = re.compile(r"mpilaunch: phase (.+?) \+\S+ ms @(\d+)")


def main():
    options = parse_options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    report.warn_if_busy()
    machine = report.machine_facts({"mpirun": ["mpirun", "--version"], "ssh": ["ssh", "-V"]})
    samples, phases = {}, {}
    try:
        compile_programs()
        for workers in options.workers:
            found, phases[f"ours_{workers}"] = measure_bed(workers, options)
            samples.update({f"{name}_{workers}": values for name, values in found.items()})
    except BedError as error:
        sys.exit(f"bench launch: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    ratios = {
        f"{name}_{workers}": statistics.median(samples[f"ours_{workers}"])
        / statistics.median(samples[f"{name}_{workers}"])
        for name in RATIOS
        for workers in options.workers
        if {name, "ours"} <= set(options.only)
    }
    path = report.write("launch", machine, samples, ratios, phases=phases)
    print(f"\nwritten: {path.relative_to(report.REPOSITORY)}")
    print(report.ratios_line(ratios))


def parse_options():
    parser = argparse.ArgumentParser(prog="./dev bench launch", description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=9, help="rounds per bed (default 9)")
    parser.add_argument("--workers", type=int, nargs="+", default=[2, 8], choices=[1, 2, 4, 8],
                        help="sizes of the bed (default 2 8)")
    parser.add_argument("--only", nargs="+", default=list(CONTENDERS), choices=list(CONTENDERS),
                        help="run these contenders only")
    parser.add_argument("--build", default=str(report.REPOSITORY / "build" / "release"),
                        help="build folder to take mpilaunch from (default build/release)")
    options = parser.parse_args()
    if options.runs < 1:
        parser.error("--runs must be at least 1")
    return options


def compile_programs():
    report.RESULTS.mkdir(parents=True, exist_ok=True)
    for source in ("examples/hello.c", "tests/bench/timed_hello.c"):
        path = report.REPOSITORY / source
        subprocess.run(["mpicc", "-O2", "-o", report.RESULTS / path.stem, path], check=True)


def measure_bed(workers, options):
    """Returns samples by contender in ms, and the phases of ours as a list of rows."""
    slots = RANKS // workers
    phases = []
    with Bed(workers, options.build, report.RESULTS) as bed:
        prepare(bed, slots, options)
        samples = defaultdict(list)
        for _ in range(options.runs):
            for name in random.sample(options.only, len(options.only)):
                samples[name].append(run_contender(bed, name))
            bed.check_daemons()
        if "ours" in options.only:
            phases = phase_table([phases_of_one_run(bed) for _ in range(options.runs)])
    print(f"\n{workers} workers, {RANKS} ranks, {options.runs} runs each, interleaved")
    samples = {name: samples[name] for name in options.only}
    report.print_samples(samples)
    if phases:
        print_phases(workers, phases)
    return samples, phases


def prepare(bed, slots, options):
    """Puts programs and hostfile in place, starts the daemons, runs all contenders unmeasured."""
    for program in ("hello", "timed_hello"):
        target = bed.shared / program
        target.write_bytes((report.RESULTS / program).read_bytes())
        target.chmod(0o755)
    (bed.shared / "hostfile").write_text(
        "".join(f"{worker.name} slots={slots}\n" for worker in bed.workers)
    )
    sshd.start(bed)
    if "ours" in options.only:
        mpilaunch_cluster.start(bed, slots)
        bed.frontend.run([f"{BUILD}/bin/mpilaunch", "--wait", "30", "hello", "-n", str(RANKS)])
        bed.frontend.run(PHASES_COMMAND)
    for name in options.only:
        run_contender(bed, name)


def run_contender(bed, name):
    """Wall time of one checked run, in ms."""
    began = time.monotonic_ns()
    done = bed.frontend.run(CONTENDERS[name], AS_ROOT)
    took = (time.monotonic_ns() - began) / 1e6
    hosts = [bed.frontend] if name.startswith("floor") else bed.workers
    check_output(name, done.stdout, hosts)
    return took


def check_output(name, output, hosts):
    """BedError unless each of the ranks spoke once, evenly spread over `hosts`."""
    found = HELLO.findall(output)
    ranks = sorted(int(rank) for rank, _ in found)
    spread = Counter(host for _, host in found)
    wanted = {host.name: RANKS // len(hosts) for host in hosts}
    if ranks != list(range(RANKS)) or spread != wanted:
        raise BedError(f"{name}: wanted {RANKS} Hello lines from {wanted}, got:\n{output}")


def phases_of_one_run(bed):
    typed = time.time_ns()
    done = bed.frontend.run(PHASES_COMMAND)
    ended = time.time_ns()
    return phases_of(typed, ended, done.stdout + done.stderr, bed.workers)


def phases_of(typed, ended, output, hosts):
    """(phase, ms since `typed`) in the order of time, from the output of one run of timed_hello.
    `typed` and `ended` are nanoseconds of CLOCK_REALTIME."""
    check_output("timed_hello", output, hosts)
    ranks = [(int(began), int(ready)) for _, began, ready in TIMED.findall(output)]
    if len(ranks) != RANKS:
        raise BedError(f"timed_hello: not {RANKS} timed lines in:\n{output}")
    marks = [(name, int(nanos)) for name, nanos in PHASE.findall(output)]
    marks += [
        ("ranks up (last main)", max(began for began, _ in ranks)),
        ("MPI_Init (last)", max(ready for _, ready in ranks)),
        ("end of the command", ended),
    ]
    marks.sort(key=lambda mark: mark[1])
    return [(name, (nanos - typed) / 1e6) for name, nanos in marks]


def phase_table(runs):
    """Rows in order of time: medians of each phase's end and of the time since the one before."""
    until, took = defaultdict(list), defaultdict(list)
    for run in runs:
        before = 0.0
        for name, at in run:
            until[name].append(at)
            took[name].append(at - before)
            before = at
    return [
        {
            "phase": name,
            "took": round(statistics.median(took[name]), 2),
            "until": round(statistics.median(until[name]), 2),
        }
        for name in sorted(until, key=lambda name: statistics.median(until[name]))
    ]


def print_phases(workers, phases):
    print(f"\nphases of mpilaunch, {workers} workers: ms, medians")
    print(f"{'':24}{'took':>8}{'until':>8}")
    for row in phases:
        print(f"{row['phase']:24}{row['took']:8.1f}{row['until']:8.1f}")


if __name__ == "__main__":
    main()
