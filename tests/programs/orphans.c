// Leaves NUMBER processes whose parents are gone, and as many zombies: orphans NUMBER. No MPI in
// it.
#include <stdlib.h>
#include <unistd.h>

// The child is never waited for. Its own child lives until the pipe has no writer any more.
static void make_orphan(const int* ends) {
  const pid_t child = fork();
  if (child < 0) exit(1);
  if (child > 0) return;
  if (fork() == 0) {
    char nothing;
    close(ends[1]);
    _exit(read(ends[0], &nothing, 1) == 0 ? 0 : 1);
  }
  _exit(0);
}

int main(int argc, char** argv) {
  const int number = argc > 1 ? atoi(argv[1]) : 0;
  int ends[2];
  if (pipe(ends) != 0) return 1;
  for (int i = 0; i < number; ++i) make_orphan(ends);
  return 0;
}
