# The peer of ./dev bench docker: a course's usual image. Open MPI as Debian ships it, an sshd, one
# key pair for all, host keys not asked about. mpilaunch's own images have none of this.
FROM debian:bookworm-20260518-slim
RUN apt-get update && apt-get install -y --no-install-recommends \
      openmpi-bin openssh-server openssh-client \
    && rm -rf /var/lib/apt/lists/*
RUN mkdir -p /run/sshd /root/.ssh \
    && ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519 \
    && cp /root/.ssh/id_ed25519.pub /root/.ssh/authorized_keys \
    && printf 'Host *\n  StrictHostKeyChecking no\n  LogLevel ERROR\n' >/root/.ssh/config
# The very program that mpilaunch runs, already on every worker.
COPY --from=mpilaunch-frontend:4.1 /work/hello /work/hello
WORKDIR /work
ENTRYPOINT ["/usr/sbin/sshd", "-D", "-e"]
