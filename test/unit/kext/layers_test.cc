// The rows of the layers against the simulated filter engine, which has Windows' ids of them.
#include <ntddk.h>

#include <gtest/gtest.h>

#include <cstring>
#include <set>
#include <string>

#include "layers.h"
#include "wfp/layers.h"

namespace
{

std::string Narrow(const WCHAR *text)
{
    std::string narrow;
    for (; *text != 0; ++text)
    {
        narrow.push_back(static_cast<char>(*text));
    }
    return narrow;
}

TEST(LayersTest, EveryRowIsOfALayerOfItsOwn)
{
    std::set<uint16_t> ids;

    for (const LAYER &layer : Layers)
    {
        uint16_t id = 0xFFFF;

        ASSERT_NE(sim::wfp::FindLayer(*layer.Key, &id), nullptr) << Narrow(layer.Name);
        EXPECT_TRUE(ids.insert(id).second) << Narrow(layer.Name);
    }
}

TEST(LayersTest, ARowIsOfTheIpVersionThatItsNameSays)
{
    for (const LAYER &layer : Layers)
    {
        const std::string version = "IPv" + std::to_string(layer.IpVersion);
        EXPECT_NE(Narrow(layer.Name).find(version), std::string::npos) << Narrow(layer.Name);
    }
}

TEST(LayersTest, NoTwoCalloutsShareAKey)
{
    for (const LAYER &left : Layers)
    {
        for (const LAYER &right : Layers)
        {
            const bool same = std::memcmp(&left.CalloutKey, &right.CalloutKey, sizeof(GUID)) == 0;
            EXPECT_EQ(same, &left == &right) << Narrow(left.Name);
        }
    }
}

TEST(LayersTest, InspectionCalloutsAllowEveryOffload)
{
    constexpr UINT32 offloads = FWP_CALLOUT_FLAG_ALLOW_OFFLOAD | FWP_CALLOUT_FLAG_ALLOW_RSC |
                                FWP_CALLOUT_FLAG_ALLOW_USO | FWP_CALLOUT_FLAG_ALLOW_URO;

    for (size_t row = 0; row < LAYER_COUNT; ++row)
    {
        const bool inspects = Layers[row].Action == FWP_ACTION_CALLOUT_INSPECTION;
        const UINT32 stream = row / 2 == LAYER_STREAM ? FWP_CALLOUT_FLAG_ALLOW_MID_STREAM_INSPECTION : 0;

        EXPECT_EQ(Layers[row].CalloutFlags, inspects ? offloads | stream : 0u) << Narrow(Layers[row].Name);
    }
}

} // namespace
