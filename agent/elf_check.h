// Can this file be started here? Reads headers and #! lines; never runs the file.
#ifndef MPILAUNCH_AGENT_ELF_CHECK_H_
#define MPILAUNCH_AGENT_ELF_CHECK_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/init_loop.h"

namespace mpilaunch {

// Up to `size` bytes at `offset`; fewer at the end of the file or on an error.
using ReadAt = std::function<std::string(uint64_t offset, size_t size)>;

struct ElfFacts {
  std::string architecture;  // as uname -m says it: "x86_64", "aarch64", "ppc64le"
  std::string interpreter;   // the dynamic loader's path; empty for a static program
};

// INVALID_ARGUMENT says why the file is no program: torn, an object file, a shared library. Our own
// reader and not libelf: four fields are wanted, of files that may be torn or hostile, in an agent
// that is to stay small. Reads at most a few KiB whatever the file says.
absl::StatusOr<ElfFacts> ReadElf(const ReadAt& read_at);

struct ScriptFacts {
  std::string interpreter;  // the path after "#!"
  std::string program;      // what "#!/usr/bin/env [-S] PROGRAM" looks up in PATH; else empty
};
// `head` begins with "#!". INVALID_ARGUMENT: no interpreter named.
absl::StatusOr<ScriptFacts> ReadScript(absl::string_view head);

// From what a dynamic loader (glibc's or musl's) printed: "libfoo.so.1, libbar.so.2 missing" and
// "libc.so.6 lacks GLIBC_2.38", joined by "; ". Empty when nothing is wrong.
std::string LibraryComplaints(absl::string_view loader_stdout, absl::string_view loader_stderr);

// FAILED_PRECONDITION, naming `name`: no program, not for this machine, or its interpreter is
// missing here. Returns the dynamic loader to ask for the libraries; empty: there is nothing to
// ask. `search_path` is the PATH in which "#!/usr/bin/env PROGRAM" looks; empty: that is not
// checked.
absl::StatusOr<std::string> CheckProgram(const std::string& path, const std::string& name,
                                         absl::string_view search_path);

// Asks `interpreter` which libraries `path` lacks, with `library_path` as LD_LIBRARY_PATH. Blocks,
// bounded; starts the loader through `init`, never the program. FAILED_PRECONDITION names all that
// is missing. A loader that cannot be asked is no complaint.
absl::Status CheckLibraries(const std::string& interpreter, const std::string& path,
                            const std::string& name, const std::string& library_path,
                            InitLoop& init);

}  // namespace mpilaunch

#endif  // MPILAUNCH_AGENT_ELF_CHECK_H_
