"""What mpilaunch replaces, set up as people do: an sshd and a key pair on every host, by hand."""

import subprocess
import time

from bed import SHARED, BedError

_SERVER = """\
Port 22
HostKey /etc/ssh/host_key
AuthorizedKeysFile /etc/ssh/client_key.pub
PidFile /run/sshd.pid
StrictModes no
UsePAM no
"""

_CLIENT = """\
Host *
  IdentityFile /etc/ssh/client_key
  StrictHostKeyChecking no
  UserKnownHostsFile /tmp/known_hosts
  LogLevel ERROR
"""

# plm_rsh_agent for connections that are open already.
CONTROL_MASTER_AGENT = "ssh -o ControlPath=/tmp/control-%h"


def start(bed):
    """Starts sshd on all workers and opens a ControlMaster connection to each from the frontend.

    Plain `ssh` still makes a connection of its own; only CONTROL_MASTER_AGENT uses the open ones.
    """
    client_key = bed.shared / "client_key"
    _make_key(client_key)
    for host in bed.hosts:
        folder = bed.shared / "ssh" / host.name
        folder.mkdir(parents=True)
        _make_key(folder / "host_key")
        for name in ("client_key", "client_key.pub"):
            (folder / name).write_bytes((bed.shared / name).read_bytes())
            (folder / name).chmod(0o600)
        (folder / "sshd_config").write_text(_SERVER)
        (folder / "ssh_config").write_text(_CLIENT)
        host.run([
            "sh", "-c", f"mount --bind {SHARED}/ssh/{host.name} /etc/ssh && mkdir /run/sshd",
        ])
    for worker in bed.workers:
        bed.start_daemon(worker, ["/usr/sbin/sshd", "-D", "-e"], f"sshd-{worker.name}.log")
    for worker in bed.workers:
        _await_login(bed, worker)
        bed.frontend.run(["ssh", "-M", "-N", "-f", "-o", f"ControlPath=/tmp/control-{worker.name}",
                          "-E", f"/tmp/control-{worker.name}.log", worker.name])


def _make_key(path):
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "bench", "-f", path], check=True
    )


def _await_login(bed, worker):
    deadline = time.monotonic() + 20
    while True:
        bed.check_daemons()
        try:
            bed.frontend.run(["ssh", worker.name, "true"])
            return
        except BedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
