#include "launcher/mpirun_noise.h"

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"

namespace mpilaunch {
namespace {

constexpr char kNoise[] =
    "[frontend:00021] plm:rsh: Warning: setpgid(25,25) failed in parent with errno=Permission "
    "denied(13)\n";

// The same whether it comes at once or byte by byte.
std::string FilterAll(const std::string& text) {
  MpirunNoise at_once;
  std::string result = at_once.Filter(text);
  result += at_once.Rest();
  MpirunNoise by_bytes;
  std::string pieces;
  for (char c : text) pieces += by_bytes.Filter(absl::string_view(&c, 1));
  pieces += by_bytes.Rest();
  EXPECT_EQ(pieces, result);
  return result;
}

TEST(MpirunNoise, TheLineIsTakenOut) {
  EXPECT_EQ(FilterAll(kNoise), "");
  EXPECT_EQ(FilterAll(absl::StrCat("a\n", kNoise, kNoise, "b")), "a\nb");
  const std::string open_mpi_5 = absl::StrReplaceAll(kNoise, {{"plm:rsh", "plm:ssh"}});
  EXPECT_EQ(FilterAll(open_mpi_5), "");
  EXPECT_EQ(FilterAll("[mpife:00253] PMIX ERROR: PMIX_ERR_UNPACK_READ_PAST_END_OF_BUFFER in file "
                      "../../3rd-party/prrte/src/mca/iof/hnp/iof_hnp_receive.c at line 97\n"),
            "");
}

TEST(MpirunNoise, EverythingElsePasses) {
  for (const std::string text :
       {"", "\n", "[", "[w1:1] oops\n", "[1,0]<stderr>:x\n", "no end of line",
        "[frontend:00021] plm:rsh: W",
        "[w1:1] PMIX ERROR: PMIX_ERR_UNPACK_READ_PAST_END_OF_BUFFER in file my.c at line 97\n",
        "[x] plm:rsh: Warning: setpgid(1,1) failed in parent with errno=No such process(3)\n"}) {
    EXPECT_EQ(FilterAll(text), text);
  }
  EXPECT_EQ(FilterAll(absl::StrCat("rank says ", kNoise)), absl::StrCat("rank says ", kNoise));
  const std::string binary = std::string("\0[\n[\0]", 6) + std::string(5000, '[');
  EXPECT_EQ(FilterAll(binary), binary);
}

TEST(MpirunNoise, APromptIsNotHeldBack) {
  MpirunNoise noise;
  EXPECT_EQ(noise.Filter("name? "), "name? ");
  EXPECT_EQ(noise.Filter("[w1] password: "), "[w1] password: ");
}

}  // namespace
}  // namespace mpilaunch
