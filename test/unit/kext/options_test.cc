#include "options.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

namespace
{

OPTIONS_WIRE ValidWire()
{
    OPTIONS_WIRE wire = {};

    wire.StructSize = sizeof(wire);
    wire.Flags = OPTION_FLAG_EXTENDED_RECORDS | OPTION_FLAG_FAIL_CLOSED;
    wire.PayloadLimit = 128;
    wire.PendingTimeoutMs = 5000;
    wire.TimeoutVerdict = VerdictBlock;
    wire.LogLevel = LogSeverityDebug;
    wire.DnsPort = 5353;
    wire.TunnelPort = 1717;
    wire.SplitTunnelPort = 1719;
    wire.MaxQueuedBytes = 1000000;
    wire.MaxHeldPackets = 77;
    wire.StallTimeoutMs = 5000;
    wire.MaxConnections = 10000;
    return wire;
}

NTSTATUS Parse(const OPTIONS_WIRE &wire, OPTIONS *options)
{
    return OptionsParse(reinterpret_cast<const UINT8 *>(&wire), sizeof(wire), options);
}

TEST(OptionsTest, DefaultsAreThoseOfTheProtocol)
{
    OPTIONS options;

    OptionsSetDefaults(&options);
    EXPECT_FALSE(OptionsHas(&options, OPTION_FLAG_EXTENDED_RECORDS));
    EXPECT_FALSE(OptionsHas(&options, OPTION_FLAG_FAIL_CLOSED));
    EXPECT_EQ(options.PayloadLimit, 0xFFFFFFFFu);
    EXPECT_EQ(options.PendingTimeoutMs, 0u);
    EXPECT_EQ(options.LogLevel, LogSeverityWarning);
    EXPECT_EQ(options.DnsPort, 53);
    EXPECT_EQ(options.TunnelPort, 717);
    EXPECT_EQ(options.SplitTunnelPort, 719);
    EXPECT_EQ(options.MaxQueuedBytes, 16u * 1024 * 1024);
    EXPECT_EQ(options.MaxHeldPackets, 65536u);
    EXPECT_EQ(options.TimeoutVerdict, VerdictPermanentAccept);
    EXPECT_EQ(options.StallTimeoutMs, 0u);
    EXPECT_EQ(options.MaxConnections, 1048576u);
}

TEST(OptionsTest, ReadsEveryField)
{
    OPTIONS options;

    OptionsSetDefaults(&options);
    ASSERT_EQ(Parse(ValidWire(), &options), STATUS_SUCCESS);
    EXPECT_TRUE(OptionsHas(&options, OPTION_FLAG_EXTENDED_RECORDS));
    EXPECT_TRUE(OptionsHas(&options, OPTION_FLAG_FAIL_CLOSED));
    EXPECT_EQ(options.PayloadLimit, 128u);
    EXPECT_EQ(options.PendingTimeoutMs, 5000u);
    EXPECT_EQ(options.TimeoutVerdict, VerdictBlock);
    EXPECT_EQ(options.LogLevel, LogSeverityDebug);
    EXPECT_EQ(options.DnsPort, 5353);
    EXPECT_EQ(options.TunnelPort, 1717);
    EXPECT_EQ(options.SplitTunnelPort, 1719);
    EXPECT_EQ(options.MaxQueuedBytes, 1000000u);
    EXPECT_EQ(options.MaxHeldPackets, 77u);
    EXPECT_EQ(options.StallTimeoutMs, 5000u);
    EXPECT_EQ(options.MaxConnections, 10000u);
}

TEST(OptionsTest, AFieldNotWhollyWithinStructSizeHasItsDefault)
{
    for (UINT32 size = sizeof(UINT32); size <= sizeof(OPTIONS_WIRE); size++)
    {
        OPTIONS_WIRE wire = ValidWire();
        OPTIONS options;

        wire.StructSize = size;
        OptionsSetDefaults(&options);
        ASSERT_EQ(OptionsParse(reinterpret_cast<const UINT8 *>(&wire), size, &options), STATUS_SUCCESS) << size;
        EXPECT_EQ(OptionsHas(&options, OPTION_FLAG_EXTENDED_RECORDS), size >= 8) << size;
        EXPECT_EQ(options.PayloadLimit, size >= 12 ? 128u : 0xFFFFFFFFu) << size;
        EXPECT_EQ(options.PendingTimeoutMs, size >= 16 ? 5000u : 0u) << size;
        EXPECT_EQ(options.LogLevel, size >= 18 ? LogSeverityDebug : LogSeverityWarning) << size;
        EXPECT_EQ(options.DnsPort, size >= 20 ? 5353 : 53) << size;
        EXPECT_EQ(options.TunnelPort, size >= 22 ? 1717 : 717) << size;
        EXPECT_EQ(options.SplitTunnelPort, size >= 24 ? 1719 : 719) << size;
        EXPECT_EQ(options.MaxQueuedBytes, size >= 28 ? 1000000u : 16u * 1024 * 1024) << size;
        EXPECT_EQ(options.MaxHeldPackets, size >= 32 ? 77u : 65536u) << size;
        EXPECT_EQ(options.StallTimeoutMs, size >= 36 ? 5000u : 0u) << size;
        EXPECT_EQ(options.MaxConnections, size >= 40 ? 10000u : 1048576u) << size;
    }
}

TEST(OptionsTest, IgnoresWhatALaterVersionAppends)
{
    OPTIONS_WIRE wire = ValidWire();
    std::vector<UINT8> request(sizeof(wire) + 100, 0xFF);
    OPTIONS options;

    wire.StructSize = static_cast<UINT32>(request.size());
    memcpy(request.data(), &wire, sizeof(wire));
    ASSERT_EQ(OptionsParse(request.data(), request.size(), &options), STATUS_SUCCESS);
    EXPECT_EQ(options.MaxHeldPackets, 77u);
}

TEST(OptionsTest, RefusesSizesThatContradictTheRequest)
{
    OPTIONS_WIRE wire = ValidWire();
    const UINT8 *bytes = reinterpret_cast<const UINT8 *>(&wire);
    OPTIONS options;

    for (SIZE_T length = 0; length < sizeof(UINT32); length++)
    {
        EXPECT_EQ(OptionsParse(bytes, length, &options), STATUS_INVALID_PARAMETER);
    }
    EXPECT_EQ(OptionsParse(bytes, sizeof(wire) - 1, &options), STATUS_INVALID_PARAMETER);
    for (UINT32 size : {0u, 1u, 3u, 41u, 0xFFFFFFFFu})
    {
        wire.StructSize = size;
        EXPECT_EQ(Parse(wire, &options), STATUS_INVALID_PARAMETER) << size;
    }
}

TEST(OptionsTest, RefusesValuesOutOfRangeAndLeavesTheOptionsAlone)
{
    std::vector<OPTIONS_WIRE> bad;
    auto add = [&](auto change)
    {
        bad.push_back(ValidWire());
        change(bad.back());
    };

    add([](OPTIONS_WIRE &wire) { wire.TimeoutVerdict = VerdictUndeterminable; });
    add([](OPTIONS_WIRE &wire) { wire.TimeoutVerdict = VerdictRedirectTunnel; });
    add([](OPTIONS_WIRE &wire) { wire.TimeoutVerdict = VerdictFailed; });
    add([](OPTIONS_WIRE &wire) { wire.TimeoutVerdict = VerdictCount; });
    add([](OPTIONS_WIRE &wire) { wire.LogLevel = 0; });
    add([](OPTIONS_WIRE &wire) { wire.LogLevel = 7; });
    add([](OPTIONS_WIRE &wire) { wire.DnsPort = 0; });
    add([](OPTIONS_WIRE &wire) { wire.TunnelPort = 0; });
    add([](OPTIONS_WIRE &wire) { wire.SplitTunnelPort = 0; });
    for (const OPTIONS_WIRE &wire : bad)
    {
        OPTIONS options;
        OPTIONS before;

        memset(&options, 0x5A, sizeof(options));
        before = options;
        EXPECT_EQ(Parse(wire, &options), STATUS_INVALID_PARAMETER);
        EXPECT_EQ(memcmp(&options, &before, sizeof(options)), 0);
    }
}

TEST(OptionsTest, TheTimeoutVerdictMattersOnlyWithATimeout)
{
    OPTIONS_WIRE wire = ValidWire();
    OPTIONS options;

    wire.PendingTimeoutMs = 0;
    wire.TimeoutVerdict = VerdictFailed;
    EXPECT_EQ(Parse(wire, &options), STATUS_SUCCESS);
}

TEST(OptionsTest, TheTimeoutVerdictMayBeAnyThatNeedsNoClient)
{
    for (UINT8 verdict = VerdictAccept; verdict <= VerdictPermanentDrop; verdict++)
    {
        OPTIONS_WIRE wire = ValidWire();
        OPTIONS options;

        wire.TimeoutVerdict = verdict;
        ASSERT_EQ(Parse(wire, &options), STATUS_SUCCESS);
        EXPECT_EQ(options.TimeoutVerdict, verdict);
    }
}

TEST(OptionsTest, TimeoutVerdict0IsThePermanentVerdictOfTheFailPolicy)
{
    OPTIONS_WIRE wire = ValidWire();
    OPTIONS options;

    wire.TimeoutVerdict = 0;
    ASSERT_EQ(Parse(wire, &options), STATUS_SUCCESS);
    EXPECT_EQ(options.TimeoutVerdict, VerdictPermanentBlock);
    wire.Flags = 0;
    ASSERT_EQ(Parse(wire, &options), STATUS_SUCCESS);
    EXPECT_EQ(options.TimeoutVerdict, VerdictPermanentAccept);
}

TEST(OptionsTest, MaxConnectionsIsBroughtIntoItsBoundsAnd0IsItsDefault)
{
    OPTIONS_WIRE wire = ValidWire();
    OPTIONS options;

    for (const auto &[given, taken] : {std::pair<UINT32, UINT32>{0, 1048576},
                                       {1, 4096},
                                       {4095, 4096},
                                       {4097, 4097},
                                       {4194304, 4194304},
                                       {4194305, 4194304},
                                       {0xFFFFFFFF, 4194304}})
    {
        wire.MaxConnections = given;
        ASSERT_EQ(Parse(wire, &options), STATUS_SUCCESS);
        EXPECT_EQ(options.MaxConnections, taken) << given;
    }
}

TEST(OptionsTest, TheRecordsOfExtension2AreForClientsWhoseOptionsCoverIt)
{
    OPTIONS_WIRE wire = ValidWire();
    OPTIONS options;

    ASSERT_EQ(Parse(wire, &options), STATUS_SUCCESS);
    EXPECT_EQ(OptionsRecordExtension(&options), 2);
    wire.StructSize = FIELD_OFFSET(OPTIONS_WIRE, MaxConnections);
    ASSERT_EQ(Parse(wire, &options), STATUS_SUCCESS);
    EXPECT_EQ(OptionsRecordExtension(&options), 2);
    wire.StructSize = FIELD_OFFSET(OPTIONS_WIRE, MaxConnections) - 1;
    ASSERT_EQ(Parse(wire, &options), STATUS_SUCCESS);
    EXPECT_EQ(OptionsRecordExtension(&options), 1);
    wire = ValidWire();
    wire.Flags = OPTION_FLAG_CONNECTION_INFO;
    ASSERT_EQ(Parse(wire, &options), STATUS_SUCCESS);
    EXPECT_EQ(OptionsRecordExtension(&options), 0);
    OptionsSetDefaults(&options);
    EXPECT_EQ(OptionsRecordExtension(&options), 0);
}

TEST(OptionsTest, WithoutATimeoutVerdictTheFailPolicyDecides)
{
    OPTIONS_WIRE wire = ValidWire();
    OPTIONS options;

    wire.StructSize = FIELD_OFFSET(OPTIONS_WIRE, TimeoutVerdict);
    ASSERT_EQ(Parse(wire, &options), STATUS_SUCCESS);
    EXPECT_EQ(options.TimeoutVerdict, VerdictPermanentBlock);
    wire.Flags = 0;
    ASSERT_EQ(Parse(wire, &options), STATUS_SUCCESS);
    EXPECT_EQ(options.TimeoutVerdict, VerdictPermanentAccept);
}

TEST(OptionsTest, BringsLimitsIntoTheirBounds)
{
    OPTIONS_WIRE wire = ValidWire();
    OPTIONS options;

    wire.MaxQueuedBytes = 0;
    wire.MaxHeldPackets = 0;
    ASSERT_EQ(Parse(wire, &options), STATUS_SUCCESS);
    EXPECT_EQ(options.MaxQueuedBytes, OPTIONS_LEAST_MAX_QUEUED_BYTES);
    EXPECT_EQ(options.MaxHeldPackets, 1u);

    wire.MaxQueuedBytes = 0xFFFFFFFF;
    wire.MaxHeldPackets = 0xFFFFFFFF;
    ASSERT_EQ(Parse(wire, &options), STATUS_SUCCESS);
    EXPECT_EQ(options.MaxQueuedBytes, OPTIONS_MOST_MAX_QUEUED_BYTES);
    EXPECT_EQ(options.MaxHeldPackets, OPTIONS_MOST_MAX_HELD_PACKETS);
}

} // namespace
