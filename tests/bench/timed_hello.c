// hello.c with a clock: every rank says when main began and when MPI_Init was over, in nanoseconds
// of CLOCK_REALTIME, which all namespaces of one machine share.
#include <mpi.h>
#include <stdio.h>
#include <time.h>

static long long Now(void) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return now.tv_sec * 1000000000LL + now.tv_nsec;
}

int main(int argc, char** argv) {
  const long long main_began = Now();
  MPI_Init(&argc, &argv);
  const long long init_over = Now();
  int rank, length;
  char host[MPI_MAX_PROCESSOR_NAME];
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Get_processor_name(host, &length);
  printf("Hello world! I am process number: %d on host %s\n", rank, host);
  printf("timed %d %lld %lld\n", rank, main_began, init_over);
  MPI_Finalize();
  return 0;
}
