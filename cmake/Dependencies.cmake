# Debian's packages by their pkg-config names. MPILAUNCH_STATIC takes the archives of the same packages.
find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
find_package(CLI11 REQUIRED)
find_package(spdlog REQUIRED)
find_package(nlohmann_json REQUIRED)
find_program(PROTOC protoc REQUIRED)
find_program(GRPC_CPP_PLUGIN grpc_cpp_plugin REQUIRED)

pkg_check_modules(GRPC REQUIRED grpc++)
pkg_check_modules(PROTOBUF REQUIRED protobuf)
pkg_check_modules(CRYPTO REQUIRED libcrypto)

add_library(mpilaunch_grpc INTERFACE)
if(MPILAUNCH_STATIC)
  set(archive_folder /usr/lib/${CMAKE_LIBRARY_ARCHITECTURE})
  file(GLOB absl_archives ${archive_folder}/libabsl_*.a)
  set(grpc_archives)
  foreach(name grpc++ grpc gpr address_sorting re2 upb cares z protobuf ssl crypto)
    list(APPEND grpc_archives ${archive_folder}/lib${name}.a)
  endforeach()
  target_link_libraries(mpilaunch_grpc INTERFACE
    -Wl,--start-group ${grpc_archives} ${absl_archives} -Wl,--end-group Threads::Threads)
else()
  file(GLOB absl_libraries /usr/lib/${CMAKE_LIBRARY_ARCHITECTURE}/libabsl_*.so)
  target_link_libraries(mpilaunch_grpc INTERFACE
    ${GRPC_LINK_LIBRARIES} ${PROTOBUF_LINK_LIBRARIES} ${CRYPTO_LINK_LIBRARIES}
    -Wl,--as-needed ${absl_libraries} -lgpr Threads::Threads)
endif()
