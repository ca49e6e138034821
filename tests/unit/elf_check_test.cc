#include "agent/elf_check.h"

#include <elf.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <random>

#include "support/temporary_folder.h"

namespace mpilaunch {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

ReadAt ReaderOf(const std::string& file) {
  return [file](uint64_t offset, size_t size) {
    return offset < file.size() ? file.substr(offset, size) : std::string();
  };
}

// A file as linkers write it: header, one PT_INTERP, the path.
std::string Elf64(uint16_t machine, const std::string& interpreter, uint16_t type = ET_DYN) {
  Elf64_Ehdr header{};
  std::memcpy(header.e_ident, ELFMAG, SELFMAG);
  header.e_ident[EI_CLASS] = ELFCLASS64;
  header.e_ident[EI_DATA] = ELFDATA2LSB;
  header.e_type = type;
  header.e_machine = machine;
  header.e_entry = 0x1000;
  header.e_phoff = sizeof(header);
  header.e_phentsize = sizeof(Elf64_Phdr);
  header.e_phnum = 2;
  Elf64_Phdr segments[2]{};
  segments[0].p_type = PT_LOAD;
  segments[1].p_type = interpreter.empty() ? PT_NULL : PT_INTERP;
  segments[1].p_offset = sizeof(header) + sizeof(segments);
  segments[1].p_filesz = interpreter.size() + 1;
  return std::string(reinterpret_cast<const char*>(&header), sizeof(header)) +
         std::string(reinterpret_cast<const char*>(segments), sizeof(segments)) + interpreter +
         '\0';
}

// The same in the other class and byte order.
std::string BigEndianElf32(uint16_t machine) {
  std::string file(sizeof(Elf32_Ehdr) + sizeof(Elf32_Phdr), '\0');
  const auto put = [&](size_t offset, size_t size, uint32_t value) {
    for (size_t i = 0; i < size; ++i)
      file[offset + i] = static_cast<char>(value >> 8 * (size - 1 - i));
  };
  file.replace(0, SELFMAG, ELFMAG);
  file[EI_CLASS] = ELFCLASS32;
  file[EI_DATA] = ELFDATA2MSB;
  put(offsetof(Elf32_Ehdr, e_type), 2, ET_EXEC);
  put(offsetof(Elf32_Ehdr, e_machine), 2, machine);
  put(offsetof(Elf32_Ehdr, e_phoff), 4, sizeof(Elf32_Ehdr));
  put(offsetof(Elf32_Ehdr, e_phentsize), 2, sizeof(Elf32_Phdr));
  put(offsetof(Elf32_Ehdr, e_phnum), 2, 1);
  put(sizeof(Elf32_Ehdr) + offsetof(Elf32_Phdr, p_type), 4, PT_INTERP);
  put(sizeof(Elf32_Ehdr) + offsetof(Elf32_Phdr, p_offset), 4, file.size());
  put(sizeof(Elf32_Ehdr) + offsetof(Elf32_Phdr, p_filesz), 4, 7);
  return file + "/ld.so" + '\0';
}

std::string Complaint(const std::string& file) {
  const absl::StatusOr<ElfFacts> facts = ReadElf(ReaderOf(file));
  return facts.ok() ? "" : std::string(facts.status().message());
}

TEST(ReadElfTest, DynamicProgram) {
  const absl::StatusOr<ElfFacts> facts =
      ReadElf(ReaderOf(Elf64(EM_AARCH64, "/lib/ld-linux-aarch64.so.1")));
  ASSERT_TRUE(facts.ok()) << facts.status();
  EXPECT_EQ(facts->architecture, "aarch64");
  EXPECT_EQ(facts->interpreter, "/lib/ld-linux-aarch64.so.1");
}

TEST(ReadElfTest, StaticProgramHasNoInterpreter) {
  const absl::StatusOr<ElfFacts> facts = ReadElf(ReaderOf(Elf64(EM_RISCV, "", ET_EXEC)));
  ASSERT_TRUE(facts.ok()) << facts.status();
  EXPECT_EQ(facts->architecture, "riscv64");
  EXPECT_EQ(facts->interpreter, "");
}

TEST(ReadElfTest, OtherClassAndByteOrder) {
  const absl::StatusOr<ElfFacts> facts = ReadElf(ReaderOf(BigEndianElf32(EM_S390)));
  ASSERT_TRUE(facts.ok()) << facts.status();
  EXPECT_EQ(facts->architecture, "s390");
  EXPECT_EQ(facts->interpreter, "/ld.so");
}

TEST(ReadElfTest, UnknownMachinesAreNamedByNumber) {
  EXPECT_EQ(ReadElf(ReaderOf(Elf64(0x4242, "/ld")))->architecture, "ELF machine 16962");
}

TEST(ReadElfTest, ObjectFilesCoresAndLibrariesAreNoPrograms) {
  EXPECT_THAT(Complaint(Elf64(EM_X86_64, "", ET_REL)), HasSubstr("object file"));
  EXPECT_THAT(Complaint(Elf64(EM_X86_64, "", ET_CORE)), HasSubstr("no program"));
  std::string library = Elf64(EM_X86_64, "");
  std::fill_n(library.begin() + offsetof(Elf64_Ehdr, e_entry), 8, '\0');
  EXPECT_THAT(Complaint(library), HasSubstr("shared library"));
}

TEST(ReadElfTest, EveryTruncationIsTorn) {
  const std::string whole = Elf64(EM_X86_64, "/lib64/ld-linux-x86-64.so.2");
  ASSERT_EQ(Complaint(whole), "");
  for (size_t size = SELFMAG; size < whole.size(); ++size) {
    ASSERT_EQ(Complaint(whole.substr(0, size)), "is a torn ELF file") << size;
  }
}

TEST(ReadElfTest, LyingHeadersAreRefusedAndReadLittle) {
  std::mt19937_64 random(1);
  const std::string whole = Elf64(EM_X86_64, "/lib64/ld-linux-x86-64.so.2");
  for (int round = 0; round < 200000; ++round) {
    std::string file = whole;
    for (int flips = 1 + random() % 8; flips > 0; --flips) {
      file[SELFMAG + random() % (file.size() - SELFMAG)] = random() % 3 == 0 ? '\xff' : random();
    }
    size_t most = 0;
    const ReadAt reader = ReaderOf(file);
    const absl::StatusOr<ElfFacts> facts = ReadElf([&](uint64_t offset, size_t size) {
      most = std::max(most, size);
      return reader(offset, size);
    });
    ASSERT_LE(most, 65536u);
    if (!facts.ok()) continue;
    ASSERT_LE(facts->interpreter.size(), 4096u);
  }
}

ScriptFacts Script(const std::string& head) {
  const absl::StatusOr<ScriptFacts> facts = ReadScript(head);
  EXPECT_TRUE(facts.ok()) << facts.status();
  return facts.value_or(ScriptFacts{});
}

TEST(ReadScriptTest, InterpreterAndItsArgument) {
  EXPECT_EQ(Script("#!/bin/sh\necho\n").interpreter, "/bin/sh");
  EXPECT_EQ(Script("#! \t/bin/sh -eu \necho\n").interpreter, "/bin/sh");
  EXPECT_EQ(Script("#!/bin/sh").interpreter, "/bin/sh");
  EXPECT_EQ(Script("#!/bin/sh -eu\n").program, "");
}

TEST(ReadScriptTest, EnvLooksItsProgramUp) {
  EXPECT_EQ(Script("#!/usr/bin/env python3\n").program, "python3");
  EXPECT_EQ(Script("#!/usr/bin/env -S python3 -u\n").program, "python3");
  EXPECT_EQ(Script("#!/usr/bin/env -S -i LANG=C python3 -u\n").program, "python3");
  EXPECT_EQ(Script("#!/usr/bin/env python3 -u\n").program, "python3 -u");
  EXPECT_EQ(Script("#!/usr/bin/env -i\n").program, "");
  EXPECT_EQ(Script("#!/usr/bin/env\n").program, "");
}

TEST(ReadScriptTest, LinesWithoutAnInterpreter) {
  for (const char* head : {"#!", "#!\n", "#!   \n", "#!\n/bin/sh"})
    EXPECT_FALSE(ReadScript(head).ok()) << head;
}

TEST(ReadScriptTest, ALineThatTheKernelCutsOff) {
  EXPECT_FALSE(ReadScript("#!/" + std::string(253, 'x')).ok());
  EXPECT_EQ(Script("#!/bin/sh " + std::string(246, 'x')).interpreter, "/bin/sh");
}

TEST(LibraryComplaintsTest, NothingWrong) {
  EXPECT_EQ(
      LibraryComplaints("\tlinux-vdso.so.1 (0x00007fc84cfb5000)\n"
                        "\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007fc84cdba000)\n",
                        "./p: ./libfoo.so.1: no version information available (required by ./p)\n"),
      "");
}

TEST(LibraryComplaintsTest, AllThatIsMissingOnce) {
  EXPECT_EQ(
      LibraryComplaints(
          "\tlibfoo.so.1 => not found\n\tlibbar.so.2 => not found\n\tlibfoo.so.1 => not found\n",
          ""),
      "libfoo.so.1, libbar.so.2 missing");
}

TEST(LibraryComplaintsTest, AnOlderGlibc) {
  EXPECT_EQ(LibraryComplaints(
                "\tlibfoo.so.1 => not found\n",
                "./p: /lib/libc.so.6: version `GLIBC_2.38' not found (required by ./p)\n"
                "./p: /lib/libc.so.6: version `GLIBC_2.38' not found (required by ./libq.so)\n"),
            "libfoo.so.1 missing; /lib/libc.so.6 lacks GLIBC_2.38");
}

TEST(LibraryComplaintsTest, MuslsWords) {
  EXPECT_EQ(
      LibraryComplaints(
          "\t/lib/ld-musl-x86_64.so.1 (0x7f0000000000)\n",
          "Error loading shared library libfoo.so.1: No such file or directory (needed by ./p)\n"
          "Error relocating ./p: foo: symbol not found\n"),
      "libfoo.so.1 missing");
}

TEST(LibraryComplaintsTest, ABrokenLibrary) {
  EXPECT_EQ(LibraryComplaints(
                "", "./p: error while loading shared libraries: ./libfoo.so.1: file too short\n"),
            "./libfoo.so.1: file too short");
}

class CheckProgramTest : public testing::Test {
 protected:
  // What is said about a file with these contents; empty when it may start.
  std::string Said(const std::string& contents, const std::string& search_path = "/usr/bin:/bin") {
    const auto result = CheckProgram(folder_.Write("file", contents), "hello", search_path);
    if (result.ok()) return "";
    EXPECT_TRUE(absl::IsFailedPrecondition(result.status())) << result.status();
    return std::string(result.status().message());
  }

  TemporaryFolder folder_;
};

TEST_F(CheckProgramTest, OurOwnProgramMayStart) {
  const absl::StatusOr<std::string> interpreter = CheckProgram("/proc/self/exe", "hello", "");
  ASSERT_TRUE(interpreter.ok()) << interpreter.status();
  EXPECT_THAT(*interpreter, HasSubstr("/ld"));
}

TEST_F(CheckProgramTest, ForeignArchitectureNamesBoth) {
  std::string program = ReadWhole("/proc/self/exe");
  const std::string own = ReadElf(ReaderOf(program))->architecture;
  program[offsetof(Elf64_Ehdr, e_machine)] =
      static_cast<char>(own == "aarch64" ? EM_X86_64 : EM_AARCH64);
  program[offsetof(Elf64_Ehdr, e_machine) + 1] = 0;
  EXPECT_EQ(Said(program), "hello is for " + std::string(own == "aarch64" ? "x86_64" : "aarch64") +
                               ", this worker is " + own);
}

TEST_F(CheckProgramTest, AMissingLoaderIsNamed) {
  const uint16_t machine = ReadElf(ReaderOf(ReadWhole("/proc/self/exe")))->architecture == "aarch64"
                               ? EM_AARCH64
                               : EM_X86_64;
  EXPECT_EQ(
      Said(Elf64(machine, "/lib/ld-musl-none.so.1")),
      "hello needs the dynamic loader /lib/ld-musl-none.so.1, which this worker does not have "
      "(it was built for musl, as on Alpine Linux)");
}

TEST_F(CheckProgramTest, NoProgram) {
  EXPECT_EQ(Said("int main() {}\n"), "hello is not a program: no ELF header, no #! line");
  EXPECT_EQ(Said(""), "hello is not a program: the file is empty");
  EXPECT_THAT(Said("MZ\x90"), HasSubstr("Windows"));
  EXPECT_THAT(Said("\xcf\xfa\xed\xfe"), HasSubstr("macOS"));
  EXPECT_EQ(Said("\x7f"
                 "ELF"),
            "hello is a torn ELF file");
}

TEST_F(CheckProgramTest, Scripts) {
  EXPECT_EQ(Said("#!/bin/sh\nexit\n"), "");
  EXPECT_EQ(Said("#!/usr/bin/env sh\nexit\n"), "");
  EXPECT_EQ(Said("#!/opt/none/python9 -u\n"),
            "hello is a script (#!/opt/none/python9) and its interpreter /opt/none/python9 is "
            "missing here");
  EXPECT_THAT(Said("#!/etc/passwd\n"), HasSubstr("cannot be executed here"));
  EXPECT_EQ(Said("#!/usr/bin/env python9\n"),
            "hello is a script (#!/usr/bin/env python9) and python9 is not in the PATH here "
            "(/usr/bin:/bin)");
  EXPECT_EQ(Said("#!/usr/bin/env python9\n", ""), "");
  EXPECT_THAT(Said("#!python3\n"), HasSubstr("no absolute path"));
  EXPECT_EQ(Said("#!/bin/sh\r\nexit\r\n"),
            "hello is a script with Windows line ends (#!/bin/sh\\r): convert it with dos2unix");
  EXPECT_THAT(Said("#!/usr/bin/env sh\r\nexit\r\n"), HasSubstr("Windows line ends"));
}

}  // namespace
}  // namespace mpilaunch
