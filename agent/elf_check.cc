#include "agent/elf_check.h"

#include <elf.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "common/logging.h"
#include "common/program_path.h"
#include "common/run_program.h"
#include "common/status_macros.h"
#include "common/unique_fd.h"

#ifndef EM_LOONGARCH
#define EM_LOONGARCH 258
#endif

namespace mpilaunch {
namespace {

constexpr size_t kHeadBytes = 256;                 // what the kernel reads for the #! line
constexpr size_t kMaxProgramHeadersBytes = 65536;  // the kernel takes no more
constexpr uint64_t kMaxInterpreterBytes = 4096;    // nor longer paths
constexpr absl::Duration kLoaderTimeout = absl::Seconds(10);

absl::Status Torn() { return absl::InvalidArgumentError("is a torn ELF file"); }

// Fields of a header of either class and byte order. Offsets are known to lie inside `bytes`.
class Fields {
 public:
  Fields(absl::string_view bytes, bool is_64, bool little_endian)
      : bytes_(bytes), is_64_(is_64), little_endian_(little_endian) {}

  uint64_t Number(size_t offset, size_t size) const {
    uint64_t value = 0;
    for (size_t i = 0; i < size; ++i) {
      const size_t at = offset + (little_endian_ ? size - 1 - i : i);
      value = value << 8 | static_cast<unsigned char>(bytes_[at]);
    }
    return value;
  }
  uint16_t Half(size_t offset) const { return static_cast<uint16_t>(Number(offset, 2)); }
  // A field whose place and size depend on the class.
  uint64_t Wide(size_t offset_64, size_t offset_32) const {
    return is_64_ ? Number(offset_64, 8) : Number(offset_32, 4);
  }

 private:
  const absl::string_view bytes_;
  const bool is_64_;
  const bool little_endian_;
};

std::string ArchitectureName(uint16_t machine, bool is_64, bool little_endian) {
  switch (machine) {
    case EM_X86_64:
      return is_64 ? "x86_64" : "x32";
    case EM_386:
      return "i686";
    case EM_AARCH64:
      return little_endian ? "aarch64" : "aarch64_be";
    case EM_ARM:
      return "arm";
    case EM_PPC64:
      return little_endian ? "ppc64le" : "ppc64";
    case EM_RISCV:
      return is_64 ? "riscv64" : "riscv32";
    case EM_S390:
      return is_64 ? "s390x" : "s390";
    case EM_LOONGARCH:
      return is_64 ? "loongarch64" : "loongarch32";
    default:
      return absl::StrCat("ELF machine ", machine);
  }
}

// The path in the PT_INTERP segment; empty when there is none.
absl::StatusOr<std::string> ReadInterpreter(const ReadAt& read_at, const Fields& header, bool is_64,
                                            bool little_endian) {
  const uint64_t table_offset =
      header.Wide(offsetof(Elf64_Ehdr, e_phoff), offsetof(Elf32_Ehdr, e_phoff));
  const size_t count =
      header.Half(is_64 ? offsetof(Elf64_Ehdr, e_phnum) : offsetof(Elf32_Ehdr, e_phnum));
  const size_t entry_size =
      header.Half(is_64 ? offsetof(Elf64_Ehdr, e_phentsize) : offsetof(Elf32_Ehdr, e_phentsize));
  if (count == 0 || entry_size != (is_64 ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr)) ||
      count * entry_size > kMaxProgramHeadersBytes) {
    return absl::InvalidArgumentError("is an ELF file without usable program headers");
  }
  const std::string table = read_at(table_offset, count * entry_size);
  if (table.size() != count * entry_size) return Torn();
  for (size_t i = 0; i < count; ++i) {
    const Fields segment(absl::string_view(table).substr(i * entry_size, entry_size), is_64,
                         little_endian);
    if (segment.Number(0, 4) != PT_INTERP) continue;
    const uint64_t size =
        segment.Wide(offsetof(Elf64_Phdr, p_filesz), offsetof(Elf32_Phdr, p_filesz));
    if (size < 2 || size > kMaxInterpreterBytes) return Torn();
    std::string path =
        read_at(segment.Wide(offsetof(Elf64_Phdr, p_offset), offsetof(Elf32_Phdr, p_offset)), size);
    if (path.size() != size || path.back() != '\0') return Torn();
    path.resize(std::strlen(path.c_str()));
    return path;
  }
  return std::string();
}

ReadAt Reader(int fd) {
  return [fd](uint64_t offset, size_t size) {
    std::string bytes(size, '\0');
    size_t filled = 0;
    while (filled < size) {
      // An offset beyond what off_t holds is negative: EINVAL, nothing read.
      const ssize_t got =
          pread(fd, bytes.data() + filled, size - filled, static_cast<off_t>(offset + filled));
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) break;
      filled += got;
    }
    bytes.resize(filled);
    return bytes;
  };
}

// Of this process, and so of the programs that run here. Empty when /proc is missing.
const std::string& OwnArchitecture() {
  static const std::string* const architecture = [] {
    const UniqueFd self(open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
    const absl::StatusOr<ElfFacts> facts = ReadElf(Reader(self.get()));
    return new std::string(facts.ok() ? facts->architecture : "");
  }();
  return *architecture;
}

absl::StatusOr<std::string> CheckElf(const ReadAt& read_at, const std::string& name) {
  const absl::StatusOr<ElfFacts> facts = ReadElf(read_at);
  if (!facts.ok()) {
    return absl::FailedPreconditionError(absl::StrCat(name, " ", facts.status().message()));
  }
  if (facts->architecture != OwnArchitecture() && !OwnArchitecture().empty()) {
    return absl::FailedPreconditionError(absl::StrCat(name, " is for ", facts->architecture,
                                                      ", this worker is ", OwnArchitecture()));
  }
  if (facts->interpreter.empty()) return std::string();
  const absl::StatusOr<std::string> found = FindProgram(facts->interpreter, "");
  if (found.ok()) return facts->interpreter;
  return absl::FailedPreconditionError(
      absl::StrCat(name, " needs the dynamic loader ", absl::CHexEscape(facts->interpreter),
                   absl::IsNotFound(found.status()) ? ", which this worker does not have"
                                                    : ", which cannot be executed here",
                   absl::StrContains(facts->interpreter, "ld-musl")
                       ? " (it was built for musl, as on Alpine Linux)"
                       : ""));
}

absl::Status CheckScript(absl::string_view head, const std::string& name,
                         absl::string_view search_path) {
  const absl::StatusOr<ScriptFacts> script = ReadScript(head);
  if (!script.ok()) {
    return absl::FailedPreconditionError(absl::StrCat(name, " ", script.status().message()));
  }
  const std::string line = absl::CHexEscape(
      absl::StrCat("#!", script->interpreter, script->program.empty() ? "" : " ", script->program));
  if (absl::EndsWith(line, "\\r")) {
    return absl::FailedPreconditionError(absl::StrCat(name, " is a script with Windows line ends (",
                                                      line, "): convert it with dos2unix"));
  }
  if (!absl::StartsWith(script->interpreter, "/")) {
    return absl::FailedPreconditionError(
        absl::StrCat(name, " is a script whose interpreter is no absolute path (", line, ")"));
  }
  if (absl::StatusOr<std::string> found = FindProgram(script->interpreter, ""); !found.ok()) {
    return absl::FailedPreconditionError(absl::StrCat(
        name, " is a script (", line, ") and its interpreter ",
        absl::CHexEscape(script->interpreter),
        absl::IsNotFound(found.status()) ? " is missing here" : " cannot be executed here"));
  }
  if (script->program.empty() || search_path.empty() ||
      FindProgram(script->program, search_path).ok()) {
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(
      absl::StrCat(name, " is a script (", line, ") and ", absl::CHexEscape(script->program),
                   " is not in the PATH here (", search_path, ")"));
}

// What people push by mistake.
std::string KindOf(absl::string_view head) {
  if (head.empty()) return "the file is empty";
  if (absl::StartsWith(head, "MZ")) return "it looks like a Windows program";
  for (absl::string_view magic : {"\xcf\xfa\xed\xfe", "\xca\xfe\xba\xbe", "\xce\xfa\xed\xfe"}) {
    if (absl::StartsWith(head, magic)) return "it looks like a macOS program";
  }
  return "no ELF header, no #! line";
}

void AddOnce(std::vector<std::string>& list, absl::string_view item) {
  if (std::find(list.begin(), list.end(), item) == list.end()) list.emplace_back(item);
}

// What lies between the two; empty when one of them is not there.
absl::string_view Between(absl::string_view line, absl::string_view before,
                          absl::string_view after) {
  const size_t begin = line.find(before);
  if (begin == absl::string_view::npos) return "";
  line.remove_prefix(begin + before.size());
  const size_t end = line.find(after);
  return end == absl::string_view::npos ? "" : line.substr(0, end);
}

// "PROGRAM: LIBRARY: version `VERSION' not found (required by FILE)" -> "LIBRARY lacks VERSION"
std::string VersionComplaint(absl::string_view line) {
  const absl::string_view version = Between(line, ": version `", "' not found");
  if (version.empty()) return "";
  absl::string_view library = line.substr(0, line.find(": version `"));
  if (const size_t colon = library.rfind(": "); colon != absl::string_view::npos) {
    library.remove_prefix(colon + 2);
  }
  return absl::StrCat(library, " lacks ", version);
}

// How to make a loader list the libraries. glibc's --list stops at the first one missing, so it is
// asked as ldd does; musl's does not know that variable and would run the program.
struct LoaderCall {
  std::vector<std::string> argv;
  std::vector<std::string> environment;
};
absl::StatusOr<LoaderCall> HowToAsk(const std::string& interpreter, const std::string& path) {
  const std::string loader = interpreter.substr(interpreter.rfind('/') + 1);
  if (absl::StartsWith(loader, "ld-musl-")) return LoaderCall{{interpreter, "--list", path}, {}};
  if (absl::StartsWith(loader, "ld-linux") || absl::StartsWith(loader, "ld64.so") ||
      absl::StartsWith(loader, "ld.so")) {
    return LoaderCall{{interpreter, path}, {"LD_TRACE_LOADED_OBJECTS=1"}};
  }
  return absl::UnimplementedError(absl::StrCat("unknown dynamic loader ", interpreter));
}

}  // namespace

absl::StatusOr<ElfFacts> ReadElf(const ReadAt& read_at) {
  const std::string bytes = read_at(0, sizeof(Elf64_Ehdr));
  if (!absl::StartsWith(bytes, ELFMAG)) return absl::InvalidArgumentError("is no ELF file");
  if (bytes.size() < sizeof(Elf32_Ehdr)) return Torn();
  const bool is_64 = bytes[EI_CLASS] == ELFCLASS64;
  const bool little_endian = bytes[EI_DATA] == ELFDATA2LSB;
  if ((!is_64 && bytes[EI_CLASS] != ELFCLASS32) ||
      (!little_endian && bytes[EI_DATA] != ELFDATA2MSB) ||
      (is_64 && bytes.size() < sizeof(Elf64_Ehdr))) {
    return Torn();
  }
  const Fields header(bytes, is_64, little_endian);
  const uint16_t type =
      header.Half(offsetof(Elf64_Ehdr, e_type));  // the same place in both classes
  if (type == ET_REL)
    return absl::InvalidArgumentError("is an object file, not a program: link it first");
  if (type != ET_EXEC && type != ET_DYN)
    return absl::InvalidArgumentError("is an ELF file, but no program");
  ElfFacts facts;
  facts.architecture =
      ArchitectureName(header.Half(offsetof(Elf64_Ehdr, e_machine)), is_64, little_endian);
  MPILAUNCH_ASSIGN_OR_RETURN(facts.interpreter,
                             ReadInterpreter(read_at, header, is_64, little_endian));
  if (type == ET_DYN && facts.interpreter.empty() &&
      header.Wide(offsetof(Elf64_Ehdr, e_entry), offsetof(Elf32_Ehdr, e_entry)) == 0) {
    return absl::InvalidArgumentError("is a shared library, not a program");
  }
  return facts;
}

absl::StatusOr<ScriptFacts> ReadScript(absl::string_view head) {
  const bool whole_line = head.size() < kHeadBytes || absl::StrContains(head, '\n');
  absl::string_view line = head.substr(0, head.find('\n'));
  absl::ConsumePrefix(&line, "#!");
  const auto trim = [](absl::string_view text) {
    while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
    while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
    return text;
  };
  line = trim(line);
  const size_t end = std::min(line.find_first_of(" \t"), line.size());
  if (end == 0) return absl::InvalidArgumentError("is a script whose #! line names no interpreter");
  if (end == line.size() && !whole_line) {
    return absl::InvalidArgumentError("is a script whose #! line is longer than the kernel reads");
  }
  ScriptFacts facts;
  facts.interpreter = std::string(line.substr(0, end));
  absl::string_view argument = trim(line.substr(end));
  if (facts.interpreter != "env" && !absl::EndsWith(facts.interpreter, "/env")) return facts;
  // Without -S the kernel hands env the rest of the line as one word.
  if (!absl::ConsumePrefix(&argument, "-S")) {
    if (!absl::StartsWith(argument, "-")) facts.program = std::string(argument);
    return facts;
  }
  for (absl::string_view word :
       absl::StrSplit(argument, absl::ByAnyChar(" \t"), absl::SkipEmpty())) {
    if (absl::StartsWith(word, "-") || absl::StrContains(word, '=')) continue;
    facts.program = std::string(word);
    break;
  }
  return facts;
}

std::string LibraryComplaints(absl::string_view loader_stdout, absl::string_view loader_stderr) {
  std::vector<std::string> missing;
  std::vector<std::string> complaints;
  for (absl::string_view line : absl::StrSplit(loader_stdout, '\n')) {
    const size_t end = line.find(" => not found");
    if (end != absl::string_view::npos)
      AddOnce(missing, absl::StripAsciiWhitespace(line.substr(0, end)));
  }
  for (absl::string_view line : absl::StrSplit(loader_stderr, '\n')) {
    if (const std::string version = VersionComplaint(line); !version.empty())
      AddOnce(complaints, version);
    // musl, then what glibc finds broken.
    const absl::string_view library = Between(line, "Error loading shared library ", ":");
    if (!library.empty()) AddOnce(missing, library);
    const size_t broken = line.find("error while loading shared libraries: ");
    if (broken != absl::string_view::npos)
      AddOnce(complaints, line.substr(line.find(": ", broken) + 2));
  }
  if (!missing.empty()) {
    complaints.insert(complaints.begin(), absl::StrCat(absl::StrJoin(missing, ", "), " missing"));
  }
  return absl::StrJoin(complaints, "; ");
}

absl::StatusOr<std::string> CheckProgram(const std::string& path, const std::string& name,
                                         absl::string_view search_path) {
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd.valid()) return absl::ErrnoToStatus(errno, absl::StrCat("cannot open ", path));
  const ReadAt read_at = Reader(fd.get());
  const std::string head = read_at(0, kHeadBytes);
  if (absl::StartsWith(head, ELFMAG)) return CheckElf(read_at, name);
  if (absl::StartsWith(head, "#!")) {
    MPILAUNCH_RETURN_IF_ERROR(CheckScript(head, name, search_path));
    return std::string();
  }
  return absl::FailedPreconditionError(absl::StrCat(name, " is not a program: ", KindOf(head)));
}

absl::Status CheckLibraries(const std::string& interpreter, const std::string& path,
                            const std::string& name, const std::string& library_path,
                            InitLoop& init) {
  absl::StatusOr<LoaderCall> call = HowToAsk(interpreter, path);
  if (!call.ok()) {
    LogDebug(call.status().message());
    return absl::OkStatus();
  }
  call->environment.push_back(absl::StrCat("LD_LIBRARY_PATH=", library_path));
  const absl::StatusOr<ProgramResult> result =
      RunProgram(init, std::move(call->argv), std::move(call->environment), kLoaderTimeout);
  if (!result.ok()) {
    LogWarning(absl::StrCat("libraries of ", name, " not checked: ", result.status().message()));
    return absl::OkStatus();
  }
  const std::string complaints = LibraryComplaints(result->stdout_text, result->stderr_text);
  if (complaints.empty()) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      name, " cannot start here: ", complaints,
      library_path.empty() ? "" : absl::StrCat(" (LD_LIBRARY_PATH is ", library_path, ")")));
}

}  // namespace mpilaunch
