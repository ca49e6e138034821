// An MPI program that does what a test asks for: probe VERB [ARGUMENT].
#include <mpi.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int rank, size;

static void print_stdin(void) {
  size_t total = 0;
  unsigned long sum = 0;
  unsigned char buffer[65536];
  size_t n;
  while ((n = fread(buffer, 1, sizeof(buffer), stdin)) > 0) {
    for (size_t i = 0; i < n; ++i) sum = sum * 31 + buffer[i];
    total += n;
  }
  printf("rank %d read %zu bytes, sum %lu\n", rank, total, sum);
}

static void exchange(void) {
  enum { kCount = 1 << 17 };  // 1 MiB: long enough for every protocol of the transport
  double* data = malloc(kCount * sizeof(double));
  double* sum = malloc(kCount * sizeof(double));
  for (int i = 0; i < kCount; ++i) data[i] = rank + 1;
  MPI_Allreduce(data, sum, kCount, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
  MPI_Sendrecv_replace(data, kCount, MPI_DOUBLE, (rank + 1) % size, 0, (rank + size - 1) % size, 0,
                       MPI_COMM_WORLD, MPI_STATUS_IGNORE);
  const int good =
      sum[kCount - 1] == size * (size + 1) / 2.0 && data[0] == (rank + size - 1) % size + 1;
  int all_good;
  MPI_Reduce(&good, &all_good, 1, MPI_INT, MPI_LAND, 0, MPI_COMM_WORLD);
  if (rank == 0) printf("exchange of %d ranks %s\n", size, all_good ? "good" : "BAD");
}

static void on_usr1(int signal) {
  (void)signal;
  static const char text[] = "got USR1\n";
  if (write(1, text, sizeof(text) - 1) < 0) _exit(1);
  _exit(0);
}

int main(int argc, char** argv) {
  const char* verb = argc > 1 ? argv[1] : "";
  const char* argument = argc > 2 ? argv[2] : "";
  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  int exit_code = 0;
  if (!strcmp(verb, "exit") && rank == size - 1) exit_code = atoi(argument);
  if (!strcmp(verb, "abort") && rank == size - 1) MPI_Abort(MPI_COMM_WORLD, atoi(argument));
  if (!strcmp(verb, "segv") && rank == size - 1) raise(SIGSEGV);
  if (!strcmp(verb, "stdin")) print_stdin();
  if (!strcmp(verb, "exchange")) exchange();
  if (!strcmp(verb, "env"))
    printf("rank %d %s=%s\n", rank, argument, getenv(argument) ? getenv(argument) : "(unset)");
  if (!strcmp(verb, "args")) {
    for (int i = 2; i < argc && rank == 0; ++i) printf("[%s]\n", argv[i]);
  }
  if (!strcmp(verb, "where")) {
    char host[256], folder[4096];
    gethostname(host, sizeof(host));
    printf("rank %d of %d host %s folder %s uid %d\n", rank, size, host,
           getcwd(folder, sizeof(folder)), (int)getuid());
  }
  if (!strcmp(verb, "output")) {
    for (long i = 0; i < atol(argument); ++i)
      printf("rank %d line %ld of some length to fill pipes and queues\n", rank, i);
  }
  if (!strcmp(verb, "sleep")) {
    printf("rank %d sleeps\n", rank);
    fflush(stdout);
    sleep((unsigned)atoi(argument));
  }
  if (!strcmp(verb, "stubborn")) {
    signal(SIGTERM, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    printf("rank %d sleeps\n", rank);
    fflush(stdout);
    for (;;) pause();
  }
  if (!strcmp(verb, "usr1")) {
    signal(SIGUSR1, on_usr1);
    printf("rank %d waits\n", rank);
    fflush(stdout);
    sleep(30);
    exit_code = 1;
  }
  MPI_Finalize();
  return exit_code;
}
