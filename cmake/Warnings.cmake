# Warnings and sanitizers for our own code; generated code gets neither -Wextra nor -Werror.
add_library(mpilaunch_warnings INTERFACE)
target_compile_options(mpilaunch_warnings INTERFACE -Wall -Wextra -Werror)

if(MPILAUNCH_SANITIZE)
  add_compile_options(-fsanitize=${MPILAUNCH_SANITIZE} -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${MPILAUNCH_SANITIZE})
endif()

if(MPILAUNCH_STATIC)
  add_compile_options(-ffunction-sections -fdata-sections)
  add_link_options(-static-libstdc++ -static-libgcc -Wl,--gc-sections -s)
endif()
