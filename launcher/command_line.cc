#include "launcher/command_line.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/exit_codes.h"
#include "launcher/unix_listener.h"

namespace mpilaunch {
namespace {

constexpr uint32_t kMaxRanks = 1 << 20;
constexpr uint32_t kMaxLocalWorkers = 1024;

constexpr char kDescription[] =
    "Runs an Open MPI program on the workers that are registered with the frontend. A program that "
    "is a file\n"
    "here is pushed to the workers that lack it; any other name without a '/' is a program that "
    "they "
    "have. No ssh,\n"
    "no hostfile, no copying.\n\n"
    "  mpilaunch hello -n 8               eight ranks of ./hello, in even blocks over all workers\n"
    "  mpilaunch -n 8 hello a b           with arguments; options before the program, as with "
    "mpirun\n"
    "  mpilaunch hello -n 8 -- a b        the same\n"
    "  mpilaunch -n 4 --stage ring.py python3 ring.py\n"
    "                                     the workers' python3, with a file of yours\n"
    "  mpilaunch --here hello -n 4        in the frontend itself, without workers\n"
    "  mpilaunch --local=2 hello -n 8     on this machine alone: a frontend and two workers for "
    "this one run\n"
    "  mpilaunch workers | jobs | cancel JOB";
constexpr char kFooter[] =
    "Exit code: the program's; 124 --timeout expired, 125 mpilaunch, a worker or the frontend "
    "failed,\n"
    "126 program not executable, 127 program not found, 128 + N ended by signal N, 2 wrong usage.";

// A whole number of at least `lowest`, with an error that repeats what was typed.
CLI::Validator WholeNumber(const std::string& what, uint32_t lowest, uint32_t highest) {
  return CLI::Validator(
      [=](std::string& text) -> std::string {
        uint64_t number = 0;
        if (absl::SimpleAtoi(text, &number) && number >= lowest && number <= highest) return {};
        return absl::StrCat("\"", text, "\" is no ", what, " (", lowest, " to ", highest, ")");
      },
      "N");
}

struct Formatter : CLI::Formatter {
  std::string make_usage(const CLI::App*, std::string) const override {
    return "\nUsage: mpilaunch PROGRAM [OPTIONS] [-- ARGUMENTS]\n       mpilaunch [OPTIONS] "
           "PROGRAM [ARGUMENTS]\n";
  }
};

struct RunParser {
  RunCommand command;
  std::string socket = DefaultSocketPath();
  std::string map = "spread";
  CLI::App app{kDescription, "mpilaunch"};

  RunParser() {
    app.formatter(std::make_shared<Formatter>());
    app.prefix_command();
    app.footer(kFooter);
    app.set_version_flag("--version", MPILAUNCH_VERSION);
    app.add_option("-n,--np", command.ranks, "Number of ranks (default: one per slot)")
        ->check(WholeNumber("number of ranks", 1, kMaxRanks));
    app.add_option("-x", command.exports,
                   "VAR or VAR=VALUE: set it in the ranks' environment; may be repeated")
        ->type_size(1)
        ->allow_extra_args(false)
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    app.add_option("--stage", command.staged,
                   "PATH: push this file, or folder with all that is in it, too; the ranks find it "
                   "under the same path in the job's own folder; may be repeated")
        ->type_size(1)
        ->allow_extra_args(false)
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    app.add_option("--wdir", command.working_directory,
                   "Start the ranks in this folder of the workers (default: the job's own)");
    app.add_flag("--oversubscribe", command.oversubscribe, "Allow more ranks than slots");
    app.add_option("--map", map,
                   "spread: even blocks over all workers; pack: fill one worker after the other")
        ->check(CLI::IsMember({"spread", "pack"}))
        ->capture_default_str();
    app.add_option("--mca", command.mca,
                   "KEY VALUE: a parameter of Open MPI, over mpilaunch's own choice (see -v)")
        ->allow_extra_args(false);
    app.add_flag("--tag-output", command.tag_output, "Put job and rank before each line of output");
    app.add_option("--timeout", command.timeout_seconds,
                   "End the job when it has run for this many seconds, exit 124")
        ->check(WholeNumber("number of seconds", 1, 1u << 31));
    app.add_option("--wait", command.wait_seconds,
                   "Wait so many seconds for the frontend to listen and for enough workers to "
                   "register")
        ->envname("MPILAUNCH_WAIT")
        ->check(WholeNumber("number of seconds", 0, 1u << 31));
    app.add_flag("-v,--verbose", command.verbose,
                 "Show what mpilaunch chose, and the times of the launch");
    app.add_option("--local", command.local_workers,
                   "W: start a frontend and W workers on this machine for this run")
        ->check(WholeNumber("number of workers", 1, kMaxLocalWorkers));
    app.add_flag("--here", command.here,
                 "Run in the frontend itself, on its own slots, and on no worker")
        ->excludes("--local");
    app.add_option("--socket", socket, "Unix socket of mpilaunchd")
        ->envname("MPILAUNCH_SOCKET")
        ->capture_default_str();
  }

  // Parses options up to the first word that is none; returns that word and the rest.
  std::vector<std::string> Parse(std::vector<std::string> words) {
    std::reverse(words.begin(), words.end());  // CLI11 takes them from the back
    app.parse(std::move(words));
    return app.remaining();
  }
};

int Fail(const std::string& message) {
  std::fprintf(stderr, "mpilaunch: %s\nmpilaunch --help shows how it is used.\n", message.c_str());
  return kExitUsage;
}

// mpirun's spellings with one dash.
std::vector<std::string> ReplaceLongShortOptions(std::vector<std::string> words) {
  for (std::string& word : words) {
    if (word == "--") break;
    if (word == "-np" || word == "-mca" || word == "-wdir") word.insert(0, "-");
  }
  return words;
}

// How many of the first words only say where: --here, --local=W or --local W.
size_t WherePrefix(const std::vector<std::string>& words) {
  if (words.empty()) return 0;
  if (words[0] == "--here" || absl::StartsWith(words[0], "--local=")) return 1;
  return words[0] == "--local" && words.size() > 1 ? 2 : 0;
}

bool IsRanksOption(absl::string_view word) {
  return word == "-n" || word == "-np" || word == "--np" || absl::StartsWith(word, "--np=");
}

// PROGRAM OPTIONS [-- ARGUMENTS]; `words` begin with the program.
std::optional<std::string> ParseProgramFirst(const std::vector<std::string>& words,
                                             const std::vector<std::string>& options_before,
                                             RunParser& parser) {
  RunCommand& command = parser.command;
  const auto separator = std::find(words.begin(), words.end(), "--");
  std::vector<std::string> options = options_before;
  options.insert(options.end(), words.begin() + 1, separator);
  const std::vector<std::string> rest = parser.Parse(ReplaceLongShortOptions(options));
  for (const std::string& word : rest) {
    if (!absl::StartsWith(word, "-")) continue;
    return absl::StrCat(&word == &rest[0] ? "unknown option " : "option behind an argument: ", word,
                        "; what is meant for ", words[0], " goes behind \"--\"");
  }
  command.program = words[0];
  command.arguments = rest;
  if (separator != words.end()) {
    command.arguments.insert(command.arguments.end(), separator + 1, words.end());
  }
  return std::nullopt;
}

// Options may follow the program unless some stood before it: then the rest is the program's, as
// with mpirun. Those that only say where do not count, and a -n right behind the program is ours
// when there was none before.
std::optional<std::string> ParseRun(const std::vector<std::string>& words, RunParser& parser) {
  RunCommand& command = parser.command;
  const size_t where = WherePrefix(words);
  if (where < words.size() && !absl::StartsWith(words[where], "-")) {
    return ParseProgramFirst({words.begin() + where, words.end()},
                             {words.begin(), words.begin() + where}, parser);
  }
  std::vector<std::string> rest = parser.Parse(ReplaceLongShortOptions(words));
  const bool separated = !rest.empty() && rest[0] == "--";
  if (separated) rest.erase(rest.begin());
  if (rest.empty()) return "no program named";
  if (absl::StartsWith(rest[0], "-")) return absl::StrCat("unknown option ", rest[0]);
  if (command.ranks == 0 && !separated && rest.size() > 1 && IsRanksOption(rest[1])) {
    return ParseProgramFirst(rest, {words.begin(), words.end() - rest.size()}, parser);
  }
  command.program = rest[0];
  command.arguments.assign(rest.begin() + 1, rest.end());
  if (command.ranks == 0 &&
      std::any_of(command.arguments.begin(), command.arguments.end(), IsRanksOption)) {
    std::fprintf(
        stderr,
        "mpilaunch: -n behind the program's arguments is the program's own, as options stand "
        "before it\n");
  }
  return std::nullopt;
}

CommandLine ParseRunLine(const std::vector<std::string>& words) {
  CommandLine line;
  RunParser parser;
  try {
    if (words.empty()) throw CLI::CallForHelp();
    if (std::optional<std::string> error = ParseRun(words, parser)) {
      line.exit_code = Fail(*error);
      return line;
    }
  } catch (const CLI::Success& success) {
    line.exit_code = parser.app.exit(success);
    if (words.empty()) line.exit_code = kExitUsage;
    return line;
  } catch (const CLI::ParseError& error) {
    line.exit_code = Fail(error.what());
    return line;
  }
  parser.command.placement = parser.map == "pack" ? v1::PACK : v1::SPREAD;
  line.socket = parser.socket;
  line.command = std::move(parser.command);
  return line;
}

CommandLine ParseSubcommand(const std::vector<std::string>& words) {
  CommandLine line;
  line.socket = DefaultSocketPath();
  bool json = false;
  std::string job;
  CLI::App app("", "mpilaunch " + words[0]);
  app.add_option("--socket", line.socket, "Unix socket of mpilaunchd")
      ->envname("MPILAUNCH_SOCKET")
      ->capture_default_str();
  if (words[0] == "cancel") {
    app.description("Ends a job; its mpilaunch exits with 125.");
    app.add_option("JOB", job, "Number of the job, see mpilaunch jobs")->required();
  } else {
    app.description(words[0] == "workers"
                        ? "Lists the workers: slots and why, Open MPI, state."
                        : "Lists the jobs: queued, running, and the last that ended.");
    app.add_flag("--json", json, "For programs");
  }
  try {
    app.parse(std::vector<std::string>(words.rbegin(), words.rend() - 1));
  } catch (const CLI::Success& success) {
    line.exit_code = app.exit(success);
  } catch (const CLI::ParseError& error) {
    line.exit_code = Fail(error.what());
  }
  if (words[0] == "workers") line.command = WorkersCommand{json};
  if (words[0] == "jobs") line.command = JobsCommand{json};
  if (words[0] == "cancel") line.command = CancelCommand{job};
  return line;
}

}  // namespace

CommandLine ParseCommandLine(const std::vector<std::string>& typed) {
  // --socket may stand before a subcommand, too.
  std::vector<std::string> words = typed;
  const size_t socket = words.empty()                             ? 0
                        : words[0] == "--socket"                  ? 2
                        : absl::StartsWith(words[0], "--socket=") ? 1
                                                                  : 0;
  if (socket < words.size() && socket > 0)
    std::rotate(words.begin(), words.begin() + socket, words.begin() + socket + 1);
  const bool subcommand =
      !words.empty() && (words[0] == "workers" || words[0] == "jobs" || words[0] == "cancel");
  return subcommand ? ParseSubcommand(words) : ParseRunLine(typed);
}

}  // namespace mpilaunch
