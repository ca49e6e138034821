"""How long `mpilaunch hello -n 8` takes in real containers, against ssh. `./dev bench docker`.

Two clusters of containers idle side by side: mpilaunch's own images, and a course's usual image with
sshd and a key pair (ssh.Dockerfile). Every round runs every contender once, in an order drawn anew.
A sample is the wall time of the whole command, by a clock inside the frontend's container: what
`docker exec` costs is not in it. A run whose output is not eight Hello lines from the right hosts
fails the benchmark.

first_hello is another thing: a cluster's time from the first `docker run` to the first Hello line,
images present, and every container's start in it. On the ssh side the workers' sshds are awaited by
logging in, the least that a person would do.
"""

import argparse
import random
import signal
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import launch
import report
from bed import BedError
from containers import Cluster, docker

SSH_IMAGE = "mpilaunch-bench-ssh"
FRONTEND_IMAGE, WORKER_IMAGE = "mpilaunch-frontend:4.1", "mpilaunch-worker:4.1"
CONTENDERS = launch.contenders("mpilaunch")
PHASES_COMMAND = launch.phases_command("mpilaunch")
FIRST_HELLO = ["first_hello_ours", "first_hello_ssh"]
FIRST_HELLO_SECONDS = 60  # then it has failed
OPEN_MASTER = "ssh -M -N -f -o ControlPath=/tmp/control-{0} -E /tmp/control.log {0}"


def main():
    options = parse_options()
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, lambda number, _: sys.exit(128 + number))
    report.warn_if_busy()
    machine = report.machine_facts({"docker": ["docker", "--version"]})
    samples, phases = {}, {}
    try:
        build_ssh_image()
        for workers in options.workers:
            found, phases[f"ours_{workers}"] = measure(workers, options)
            samples.update({f"{name}_{workers}": values for name, values in found.items()})
    except BedError as error:
        sys.exit(f"bench docker: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    ratios = ratios_of(samples, options.workers)
    path = report.write("docker", machine, samples, ratios, phases=phases)
    print(f"\nwritten: {path.relative_to(report.REPOSITORY)}")
    print(report.ratios_line(ratios))


def parse_options():
    parser = argparse.ArgumentParser(prog="./dev bench docker", description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=9, help="rounds per cluster (default 9)")
    parser.add_argument("--starts", type=int, default=3,
                        help="clusters started for first_hello, of each kind (default 3)")
    parser.add_argument("--workers", type=int, nargs="+", default=[2, 8], choices=[1, 2, 4, 8],
                        help="sizes of the clusters (default 2 8)")
    options = parser.parse_args()
    if options.runs < 1 or options.starts < 1:
        parser.error("--runs and --starts must be at least 1")
    return options


def build_ssh_image():
    folder = Path(__file__).parent
    docker("build", "--quiet", "--tag", SSH_IMAGE, "--file", str(folder / "ssh.Dockerfile"),
           str(folder), timeout=600)


def measure(workers, options):
    """Returns samples by contender in ms, and the phases of ours as a list of rows."""
    samples = defaultdict(list)
    for _ in range(options.starts):
        for name, start in random.sample(list(STARTS.items()), len(STARTS)):
            samples[f"first_hello_{name}"].append(first_hello(name, start, workers))
    with Cluster("ours", workers) as ours, Cluster("ssh", workers) as theirs:
        start_ours(ours)
        start_ssh(theirs)
        await_all(ours, theirs)
        for _ in range(options.runs):
            for name in random.sample(list(CONTENDERS), len(CONTENDERS)):
                samples[name].append(run_contender(name, ours if name == "ours" else theirs))
            ours.check()
            theirs.check()
        phases = launch.phase_table([phases_of_one_run(ours) for _ in range(options.runs)])
    print(f"\n{workers} workers, {launch.RANKS} ranks, {options.runs} runs each, interleaved; "
          f"{options.starts} starts of each cluster")
    samples = {name: samples[name] for name in [*FIRST_HELLO, *CONTENDERS]}
    report.print_samples(samples)
    launch.print_phases(workers, phases)
    return samples, phases


def start_ours(cluster):
    join = f"--volume={cluster.volume}:/run/join"
    cluster.start(cluster.frontend, FRONTEND_IMAGE, join)
    slots = launch.RANKS // len(cluster.workers)
    for worker in cluster.workers:
        cluster.start(worker, WORKER_IMAGE, f"{join}:ro", "--env=MPILAUNCH_FRONTEND=mpife",
                      f"--env=MPILAUNCH_SLOTS={slots}")


def start_ssh(cluster):
    for container in (cluster.frontend, *cluster.workers):
        cluster.start(container, SSH_IMAGE)


def login_script(cluster):
    """Waits for every worker's sshd, and types the hostfile."""
    slots = launch.RANKS // len(cluster.workers)
    names = " ".join(worker.name for worker in cluster.workers)
    return (f"for name in {names}; do echo $name slots={slots} >>hostfile; "
            "until ssh $name true 2>/dev/null; do sleep 0.02; done; done")


STARTS = {"ours": start_ours, "ssh": start_ssh}


def first_hello(name, start, workers):
    with Cluster(f"first-{name}", workers) as cluster:
        if name == "ours":
            command = ["mpilaunch", "hello", "-n", str(launch.RANKS), "--wait", "30"]
        else:
            mpirun = " ".join(CONTENDERS["ssh"])
            command = ["sh", "-c", f"{login_script(cluster)}; {mpirun}"]
        command = ["timeout", "--signal=KILL", str(FIRST_HELLO_SECONDS), *command]
        began = time.monotonic_ns()
        start(cluster)
        with subprocess.Popen(
            ["docker", *cluster.frontend.argv(command, launch.AS_ROOT)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        ) as process:
            said = []
            for line in process.stdout:
                said.append(line)
                if launch.HELLO.match(line):
                    return (time.monotonic_ns() - began) / 1e6
    raise BedError(f"first_hello_{name}: no Hello line in:\n{''.join(said)}")


def await_all(ours, theirs):
    """Everybody is up, connections that stay are open, and every contender has run once."""
    ours.frontend.run([*CONTENDERS["ours"], "--wait", "30"])
    program = f"{ours.frontend.id}:/work/timed_hello.c"
    docker("cp", str(report.REPOSITORY / "tests/bench/timed_hello.c"), program)
    ours.frontend.run(["mpicc", "-O2", "-o", "timed_hello", "timed_hello.c"])
    phases_of_one_run(ours)
    theirs.frontend.run(["sh", "-c", login_script(theirs)])
    for worker in theirs.workers:
        theirs.frontend.run(["sh", "-c", OPEN_MASTER.format(worker.name)])
    for name in CONTENDERS:
        run_contender(name, ours if name == "ours" else theirs)


def run_contender(name, cluster):
    """Wall time of one checked run, in ms."""
    output, began, ended = cluster.frontend.timed(CONTENDERS[name], launch.AS_ROOT)
    hosts = [cluster.frontend] if name.startswith("floor") else cluster.workers
    launch.check_output(name, output, hosts)
    return (ended - began) / 1e6


def phases_of_one_run(cluster):
    output, began, ended = cluster.frontend.timed(PHASES_COMMAND)
    return launch.phases_of(began, ended, output, cluster.workers)


def ratios_of(samples, sizes):
    ratios = {}
    for workers in sizes:
        ours = statistics.median(samples[f"ours_{workers}"])
        for name in launch.RATIOS:
            ratios[f"{name}_{workers}"] = ours / statistics.median(samples[f"{name}_{workers}"])
    for workers in sizes:
        first = [statistics.median(samples[f"{name}_{workers}"]) for name in FIRST_HELLO]
        ratios[f"first_hello_{workers}"] = first[0] / first[1]
    return ratios


if __name__ == "__main__":
    main()
