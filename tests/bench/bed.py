"""A bed of hosts on one machine: each in its own UTS, PID, IPC, mount and network namespaces.

Nothing of it has a name outside: the bridge lives in a network namespace of its own, and every
namespace lives only as long as a process that waits for the end of its standard input. Whatever
ends this program, SIGKILL too, closes those pipes; the kernel then ends all processes of the hosts
and takes links, bridge and mounts away with them. Needs root.
"""

import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

SUBNET = "10.213.77"  # /24; the frontend is .1, worker i is .(10 + i)

# Where every host sees the bed's shared folder and the build folder, whatever their paths outside:
# a host's own /tmp would hide a checkout below /tmp.
SHARED = "/mnt/bed"
BUILD = "/mnt/build"

# Process 1 of a host. bash reaps what the host's processes leave behind while it waits in `read`.
# The home is empty as in a container: a person's ~/.bashrc, which bash reads for every command over
# ssh, may take longer than all the rest.
_INIT = r"""
set -euo pipefail
name=$1 shared=$2 build=$3
hostname "$name"
mount -t tmpfs -o mode=0755 tmpfs /mnt
mkdir /mnt/bed /mnt/build
mount --bind "$shared" /mnt/bed
mount --bind "$build" /mnt/build
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount -t tmpfs -o mode=0755 tmpfs /run
mount -t tmpfs -o mode=0700 tmpfs /root
mount -t tmpfs -o mode=1777,size=64m tmpfs /dev/shm
mount --bind /mnt/bed/hosts /etc/hosts
echo ready
read -r _ || true
"""


class BedError(Exception):
    """The bed, or what runs on it, is not as it should be. The text is for people."""


class Host:
    """One host of the bed. `pid` is its process 1, seen from outside."""

    def __init__(self, name, address, holder, pid):
        self.name = name
        self.address = address
        self._holder = holder
        self.pid = pid

    def command(self, argv, environment=None, cwd=SHARED):
        """The argv that runs `argv` on this host, with a small environment as in a container."""
        settings = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/root",
            "LANG": "C.UTF-8",
        }
        settings.update(environment or {})
        return [
            "nsenter", f"--target={self.pid}", "--mount", "--root", "--uts", "--ipc", "--net",
            "--pid", "--", "env", "--ignore-environment", f"--chdir={cwd}",
            *(f"{key}={value}" for key, value in settings.items()), *argv,
        ]

    def run(self, argv, environment=None, cwd=SHARED, timeout=60):
        """Runs `argv` to its end; BedError with its output when it fails or takes longer."""
        command = self.command(argv, environment, cwd)
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout
            )
        except subprocess.TimeoutExpired as error:
            raise BedError(
                f"{self.name}: {shlex.join(argv)}: still running after {timeout} s\n"
                f"{_text(error.stdout)}{_text(error.stderr)}"
            ) from error
        if done.returncode != 0:
            raise BedError(
                f"{self.name}: {shlex.join(argv)}: exit code {done.returncode}\n"
                f"{done.stdout}{done.stderr}"
            )
        return done

    def start(self, argv, log, environment=None, cwd=SHARED):
        """Starts a daemon; its output goes to the file `log`. It ends with the host."""
        with open(log, "ab") as output:
            return subprocess.Popen(
                self.command(argv, environment, cwd),
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            )

    def end(self):
        _end(self._holder)


class Bed:
    """`with Bed(...) as bed:` has bed.frontend and bed.workers, and bed.shared, the folder that
    every host sees as SHARED. The hosts' names are mpifrontend, mpiwn1, mpiwn2, ..."""

    def __init__(self, workers, build, scratch):
        """Hosts see `build`, a CMake build folder, as BUILD; bed.shared is made below `scratch`."""
        self._worker_count = workers
        self._build = Path(build).resolve()
        self._scratch = Path(scratch).resolve()
        self._switch = None
        self._daemons = []
        self.shared = None
        self.frontend = None
        self.workers = []

    def __enter__(self):
        if os.geteuid() != 0:
            raise BedError("the bed makes network namespaces: run this as root")
        if not self._build.is_dir():
            raise BedError(f"no build folder {self._build}: type ./dev build release")
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    @property
    def hosts(self):
        return ([self.frontend] if self.frontend else []) + self.workers

    def start_daemon(self, host, argv, log_name, environment=None):
        """Starts `argv` on `host`, with its output in the shared folder; ends with the bed."""
        log = self.shared / log_name
        daemon = host.start(argv, log, environment)
        self._daemons.append((host, argv, log, daemon))
        return daemon

    def check_daemons(self):
        """BedError, with the end of its log, when a daemon of start_daemon has ended."""
        for host, argv, log, daemon in self._daemons:
            if daemon.poll() is not None:
                tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
                raise BedError(
                    f"{host.name}: {shlex.join(argv)} ended ({daemon.returncode})\n{tail}"
                )

    def stop(self):
        for host in self.hosts:
            host.end()
        for _, _, _, daemon in self._daemons:
            daemon.wait()
        if self._switch:
            _end(self._switch)
        if self.shared:
            shutil.rmtree(self.shared)
        self._switch = self.shared = self.frontend = None
        self.workers, self._daemons = [], []

    def _start(self):
        self._scratch.mkdir(parents=True, exist_ok=True)
        _remove_folders_of_the_dead(self._scratch)
        self.shared = Path(tempfile.mkdtemp(prefix=f"bed-{os.getpid()}-", dir=self._scratch))
        addresses = {"mpifrontend": f"{SUBNET}.1"}
        for index in range(1, self._worker_count + 1):
            addresses[f"mpiwn{index}"] = f"{SUBNET}.{10 + index}"
        (self.shared / "hosts").write_text(
            "127.0.0.1 localhost\n" + "".join(f"{ip} {name}\n" for name, ip in addresses.items())
        )
        self._start_switch()
        for name, address in addresses.items():
            host = self._start_host(name, address)
            if self.frontend is None:
                self.frontend = host
            else:
                self.workers.append(host)

    def _start_switch(self):
        self._switch = _holder(["unshare", "--net", "sh", "-c", "echo ready; read -r _ || true"])
        self._in_switch("ip link add bridge0 type bridge && ip link set bridge0 up")

    def _start_host(self, name, address):
        holder = _holder([
            "unshare", "--uts", "--ipc", "--pid", "--mount", "--net", "--fork", "--kill-child",
            "--mount-proc", "bash", "-c", _INIT, "bed-init", name, self.shared, self._build,
        ])
        pid = int(Path(f"/proc/{holder.pid}/task/{holder.pid}/children").read_text())
        host = Host(name, address, holder, pid)
        try:
            port = f"port{address.rpartition('.')[2]}"
            self._in_switch(
                f"ip link add {port} type veth peer name eth0 netns {pid}"
                f" && ip link set {port} master bridge0 up"
            )
            host.run(["sh", "-c", f"ip link set lo up && ip addr add {address}/24 dev eth0"
                                  " && ip link set eth0 up"])
        except BaseException:
            host.end()
            raise
        return host

    def _in_switch(self, script):
        command = ["nsenter", f"--target={self._switch.pid}", "--net", "sh", "-c", script]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise BedError(f"setting up the bed's network: {script}: {done.stderr}")


def _holder(argv):
    """Starts a process that says "ready" and then holds its namespaces until _end or our end."""
    holder = subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, start_new_session=True,
    )
    if holder.stdout.readline() != "ready\n":
        holder.kill()
        raise BedError(f"could not start a host: {holder.communicate()[1].strip()}")
    return holder


def _end(holder):
    holder.stdin.close()
    holder.wait()
    holder.stdout.close()
    holder.stderr.close()


def _remove_folders_of_the_dead(scratch):
    """A program that was killed leaves its bed's shared folder, and only that."""
    for folder in scratch.glob("bed-*-*"):
        if not Path("/proc", folder.name.split("-")[1]).exists():
            shutil.rmtree(folder)


def _text(output):
    return output.decode(errors="replace") if isinstance(output, bytes) else (output or "")
