"""mpilaunch on a bed: mpilaunchd on its frontend, an agent on every worker."""

import time

from bed import BUILD, SHARED, BedError

BUNDLE = f"{SHARED}/join-bundle"


def start(bed, slots):
    """Starts mpilaunchd and one agent of `slots` slots per worker. Does not wait for registrations:
    the first job does, with --wait."""
    bed.start_daemon(
        bed.frontend,
        [f"{BUILD}/bin/mpilaunchd", "--listen", bed.frontend.address, "--state-dir", "/tmp/state",
         "--join-bundle", BUNDLE],
        "mpilaunchd.log",
    )
    deadline = time.monotonic() + 20
    while not (bed.shared / "join-bundle").exists():
        bed.check_daemons()
        if time.monotonic() > deadline:
            log = (bed.shared / "mpilaunchd.log").read_text()
            raise BedError(f"mpilaunchd has written no join bundle after 20 s\n{log}")
        time.sleep(0.02)
    for worker in bed.workers:
        bed.start_daemon(
            worker,
            [f"{BUILD}/bin/mpilaunch-agent", "--frontend", bed.frontend.address,
             "--join-bundle", BUNDLE, "--name", worker.name, "--slots", str(slots)],
            f"agent-{worker.name}.log",
        )
