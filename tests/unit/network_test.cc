#include "common/network.h"

#include <gtest/gtest.h>

namespace mpilaunch {
namespace {

const std::vector<InterfaceAddress>& Interfaces() {
  static const auto* const interfaces = new std::vector<InterfaceAddress>{
      {"", ""},
      {"127.0.0.1", "255.0.0.0"},
      {"172.17.0.3", "255.255.0.0"},
      {"10.1.2.3", "255.255.255.224"},
      {"10.9.9.9", "255.255.255.255"},
      {"fd00:1:2:3::5", "ffff:ffff:ffff:ffff::"},
      {"fe80::1", "ffff:ffff:ffff:ffff::"},
  };
  return *interfaces;
}

std::string Network(const std::string& address) {
  const absl::StatusOr<std::string> network = NetworkAmong(Interfaces(), address);
  return network.ok() ? *network : std::string(network.status().message());
}

TEST(NetworkTest, OfTheInterfaceThatHasTheAddress) {
  EXPECT_EQ(Network("172.17.0.3"), "172.17.0.0/16");
  EXPECT_EQ(Network("127.0.0.1"), "127.0.0.0/8");
  EXPECT_EQ(Network("10.1.2.3"), "10.1.2.0/27");
  EXPECT_EQ(Network("10.9.9.9"), "10.9.9.9/32");
}

TEST(NetworkTest, Ipv6) {
  EXPECT_EQ(Network("fd00:1:2:3::5"), "fd00:1:2:3::/64");
  EXPECT_EQ(Network("fe80::1%eth0"), "fe80::/64");
}

TEST(NetworkTest, AnIpv4ConnectionOfAnIpv6SocketIsIpv4) {
  EXPECT_EQ(Network("::ffff:172.17.0.3"), "172.17.0.0/16");
}

TEST(NetworkTest, NobodysAddressIsNotFound) {
  EXPECT_TRUE(absl::IsNotFound(NetworkAmong(Interfaces(), "172.17.0.4").status()));
}

TEST(NetworkTest, WhatIsNoAddressIsSaid) {
  for (const char* text : {"", "localhost", "300.1.1.1", "1.2.3", "%", "::g"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(NetworkAmong(Interfaces(), text).status())) << text;
  }
}

TEST(NetworkTest, OfThisMachinesLoopback) {
  const absl::StatusOr<std::string> network = NetworkOf("127.0.0.1");
  ASSERT_TRUE(network.ok()) << network.status();
  EXPECT_EQ(*network, "127.0.0.0/8");
}

TEST(LocalAddressTest, TowardsLoopbackIsLoopback) {
  const absl::StatusOr<std::string> address = LocalAddressTowards("127.0.0.1", 7431);
  ASSERT_TRUE(address.ok()) << address.status();
  EXPECT_EQ(*address, "127.0.0.1");
}

TEST(LocalAddressTest, NameThatDoesNotResolve) {
  EXPECT_TRUE(absl::IsUnavailable(LocalAddressTowards("no-such-host.invalid", 7431).status()));
}

}  // namespace
}  // namespace mpilaunch
