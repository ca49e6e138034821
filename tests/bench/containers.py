"""Clusters in real containers: a network of its own, a frontend, and workers.

/tmp is a tmpfs everywhere, as in images/compose.yaml: Open MPI's session files lie there. Everything
carries one prefix, and leaving the `with` block removes it all, whatever happened.
"""

import contextlib
import json
import os
import shlex
import signal
import subprocess

from bed import BedError

# Runs a command with the clock beside it: `docker exec` takes 50 to 100 ms by itself, the same for
# all, which would blur what is compared.
_TIMED = r"""
began=$EPOCHREALTIME
"$@" >/tmp/out 2>/tmp/err </dev/null
code=$?
ended=$EPOCHREALTIME
cat /tmp/out /tmp/err
echo "clock ${began/./} ${ended/./}"
exit $code
"""


@contextlib.contextmanager
def _uninterrupted():
    """Signals wait until the end: what the daemon makes for a `docker` that is killed meanwhile
    comes after the cleaning up, and nobody removes it."""
    before = signal.pthread_sigmask(
        signal.SIG_BLOCK, [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    )
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def docker(*argv, timeout=120):
    """stdout of `docker ARGV`; BedError with its stderr when it fails. In a session of its own, as
    a terminal's Ctrl-C is for us to answer."""
    try:
        done = subprocess.run(
            ["docker", *argv], stdin=subprocess.DEVNULL, capture_output=True, text=True,
            start_new_session=True, timeout=timeout,
        )
    except subprocess.TimeoutExpired as error:
        raise BedError(f"docker {shlex.join(argv)}: still running after {timeout} s") from error
    if done.returncode != 0:
        raise BedError(f"docker {shlex.join(argv)}: exit code {done.returncode}\n"
                       f"{done.stdout}{done.stderr}")
    return done.stdout


class Container:
    """One container; `name` is its host name."""

    def __init__(self, prefix, name):
        self.name = name
        self.id = f"{prefix}-{name}"

    def argv(self, command, environment=None):
        settings = [f"--env={key}={value}" for key, value in (environment or {}).items()]
        return ["exec", *settings, self.id, *command]

    def run(self, command, environment=None):
        return docker(*self.argv(command, environment))

    def timed(self, command, environment=None):
        """(output, began, ended) of a command in it, in nanoseconds of CLOCK_REALTIME by a clock
        beside it; BedError when the command fails."""
        output = self.run(["bash", "-c", _TIMED, "timed", *command], environment)
        text, _, clock = output.rpartition("clock ")
        began, ended = (int(micros) * 1000 for micros in clock.split())
        return text, began, ended


class Cluster:
    """`with Cluster(...)`: the network is there; start() starts the containers."""

    def __init__(self, kind, workers):
        self._prefix = f"mpilaunch-bench-{os.getpid()}-{kind}-{workers}"
        self.frontend = Container(self._prefix, "mpife")
        self.workers = [Container(self._prefix, f"mpiwn{i + 1}") for i in range(workers)]

    @property
    def volume(self):
        return f"{self._prefix}-join"

    def __enter__(self):
        try:
            with _uninterrupted():
                docker("network", "create", self._prefix)
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, *_):
        self._remove()

    def _remove(self):
        with _uninterrupted():
            for argv in (
                ["rm", "--force", "--volumes", self.frontend.id, *(at.id for at in self.workers)],
                ["volume", "rm", "--force", self.volume],
                ["network", "rm", self._prefix],
            ):
                subprocess.run(["docker", *argv], stdin=subprocess.DEVNULL, capture_output=True,
                               start_new_session=True, timeout=120)

    def start(self, container, image, *options):
        with _uninterrupted():
            docker("run", "--detach", f"--name={container.id}", f"--hostname={container.name}",
                   f"--network={self._prefix}", f"--network-alias={container.name}",
                   "--tmpfs=/tmp:exec", *options, image)

    def check(self):
        """BedError with its log when a container has ended."""
        for container in (self.frontend, *self.workers):
            state = json.loads(docker("inspect", "--format={{json .State}}", container.id))
            if not state["Running"]:
                raise BedError(f"{container.name} ended with {state['ExitCode']}\n"
                               + docker("logs", "--tail=20", container.id))
