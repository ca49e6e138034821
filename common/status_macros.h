// Early return for absl::Status, and context added once per layer.
#ifndef MPILAUNCH_COMMON_STATUS_MACROS_H_
#define MPILAUNCH_COMMON_STATUS_MACROS_H_

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

namespace mpilaunch {

// `status` with "context: " before its message; its code stays. OK stays OK.
inline absl::Status Annotate(const absl::Status& status, absl::string_view context) {
  if (status.ok()) return status;
  return absl::Status(status.code(), absl::StrCat(context, ": ", status.message()));
}

}  // namespace mpilaunch

#define MPILAUNCH_RETURN_IF_ERROR(expression)                 \
  do {                                                        \
    if (absl::Status status_ = (expression); !status_.ok()) { \
      return status_;                                         \
    }                                                         \
  } while (false)

#define MPILAUNCH_CONCAT_INNER(a, b) a##b
#define MPILAUNCH_CONCAT(a, b) MPILAUNCH_CONCAT_INNER(a, b)
#define MPILAUNCH_ASSIGN_OR_RETURN(declaration, expression) \
  MPILAUNCH_ASSIGN_OR_RETURN_INNER(MPILAUNCH_CONCAT(result_, __LINE__), declaration, expression)
#define MPILAUNCH_ASSIGN_OR_RETURN_INNER(result, declaration, expression) \
  auto result = (expression);                                             \
  if (!result.ok()) return std::move(result).status();                    \
  declaration = *std::move(result)

#endif  // MPILAUNCH_COMMON_STATUS_MACROS_H_
