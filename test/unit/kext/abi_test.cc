#include <ntddk.h>

#include <ndis.h>

#include <fwpsk.h>

#include <fwpmk.h>

#include <gtest/gtest.h>

#include <cstdio>
#include <string>

#include "wfp/layers.h"

namespace
{

std::string Text(const GUID &key)
{
    char text[40];

    std::snprintf(text, sizeof(text), "%08x-%04x-%04x-%02x%02x-%02x%02x%02x%02x%02x%02x", key.Data1, key.Data2,
                  key.Data3, key.Data4[0], key.Data4[1], key.Data4[2], key.Data4[3], key.Data4[4], key.Data4[5],
                  key.Data4[6], key.Data4[7]);
    return text;
}

TEST(Abi, LayerKeysAreThoseOfWindows)
{
    EXPECT_EQ(Text(FWPM_LAYER_INBOUND_IPPACKET_V4), "c86fd1bf-21cd-497e-a0bb-17425c885c58");
    EXPECT_EQ(Text(FWPM_LAYER_INBOUND_IPPACKET_V6), "f52032cb-991c-46e7-971d-2601459a91ca");
    EXPECT_EQ(Text(FWPM_LAYER_OUTBOUND_IPPACKET_V4), "1e5c9fae-8a84-4135-a331-950b54229ecd");
    EXPECT_EQ(Text(FWPM_LAYER_OUTBOUND_IPPACKET_V6), "a3b3ab6b-3564-488c-9117-f34e82142763");
    EXPECT_EQ(Text(FWPM_LAYER_STREAM_V4), "3b89653c-c170-49e4-b1cd-e0eeeee19a3e");
    EXPECT_EQ(Text(FWPM_LAYER_STREAM_V6), "47c9137a-7ec4-46b3-b6e4-48e926b1eda4");
    EXPECT_EQ(Text(FWPM_LAYER_DATAGRAM_DATA_V4), "3d08bf4e-45f6-4930-a922-417098e20027");
    EXPECT_EQ(Text(FWPM_LAYER_DATAGRAM_DATA_V6), "fa45fe2f-3cba-4427-87fc-57b9a4b10d00");
    EXPECT_EQ(Text(FWPM_LAYER_ALE_RESOURCE_ASSIGNMENT_V4), "1247d66d-0b60-4a15-8d44-7155d0f53a0c");
    EXPECT_EQ(Text(FWPM_LAYER_ALE_RESOURCE_ASSIGNMENT_V6), "55a650e1-5f0a-4eca-a653-88f53b26aa8c");
    EXPECT_EQ(Text(FWPM_LAYER_ALE_AUTH_RECV_ACCEPT_V4), "e1cd9fe7-f4b5-4273-96c0-592e487b8650");
    EXPECT_EQ(Text(FWPM_LAYER_ALE_AUTH_RECV_ACCEPT_V6), "a3b42c97-9f04-4672-b87e-cee9c483257f");
    EXPECT_EQ(Text(FWPM_LAYER_ALE_AUTH_CONNECT_V4), "c38d57d1-05a7-4c33-904f-7fbceee60e82");
    EXPECT_EQ(Text(FWPM_LAYER_ALE_AUTH_CONNECT_V6), "4a72393b-319f-44bc-84c3-ba54dcb3b6b4");
    EXPECT_EQ(Text(FWPM_LAYER_ALE_RESOURCE_RELEASE_V4), "74365cce-ccb0-401a-bfc1-b89934ad7e15");
    EXPECT_EQ(Text(FWPM_LAYER_ALE_RESOURCE_RELEASE_V6), "f4e5ce80-edcc-4e13-8a2f-b91454bb057b");
    EXPECT_EQ(Text(FWPM_LAYER_ALE_ENDPOINT_CLOSURE_V4), "b4766427-e2a2-467a-bd7e-dbcd1bd85a09");
    EXPECT_EQ(Text(FWPM_LAYER_ALE_ENDPOINT_CLOSURE_V6), "bb536ccd-4755-4ba9-9ff7-f9edf8699c7b");
}

TEST(Abi, EngineKnowsEveryLayerByItsKey)
{
    const struct
    {
        const GUID &key;
        uint16_t id;
    } layers[] = {{FWPM_LAYER_INBOUND_IPPACKET_V4, 0},
                  {FWPM_LAYER_INBOUND_IPPACKET_V6, 2},
                  {FWPM_LAYER_OUTBOUND_IPPACKET_V4, 4},
                  {FWPM_LAYER_OUTBOUND_IPPACKET_V6, 6},
                  {FWPM_LAYER_STREAM_V4, 20},
                  {FWPM_LAYER_STREAM_V6, 22},
                  {FWPM_LAYER_DATAGRAM_DATA_V4, 24},
                  {FWPM_LAYER_DATAGRAM_DATA_V6, 26},
                  {FWPM_LAYER_ALE_RESOURCE_ASSIGNMENT_V4, 36},
                  {FWPM_LAYER_ALE_RESOURCE_ASSIGNMENT_V6, 38},
                  {FWPM_LAYER_ALE_AUTH_RECV_ACCEPT_V4, 44},
                  {FWPM_LAYER_ALE_AUTH_RECV_ACCEPT_V6, 46},
                  {FWPM_LAYER_ALE_AUTH_CONNECT_V4, 48},
                  {FWPM_LAYER_ALE_AUTH_CONNECT_V6, 50},
                  {FWPM_LAYER_ALE_RESOURCE_RELEASE_V4, 62},
                  {FWPM_LAYER_ALE_RESOURCE_RELEASE_V6, 63},
                  {FWPM_LAYER_ALE_ENDPOINT_CLOSURE_V4, 64},
                  {FWPM_LAYER_ALE_ENDPOINT_CLOSURE_V6, 65}};

    for (const auto &layer : layers)
    {
        uint16_t id = 0xFFFF;

        ASSERT_NE(sim::wfp::FindLayer(layer.key, &id), nullptr) << layer.id;
        EXPECT_EQ(id, layer.id);
    }
}

TEST(Abi, MetadataFieldIsPresentOnlyWithAllItsBits)
{
    FWPS_INCOMING_METADATA_VALUES0 metadata{};

    metadata.currentMetadataValues = FWPS_METADATA_FIELD_PROCESS_ID;
    EXPECT_TRUE(FWPS_IS_METADATA_FIELD_PRESENT(&metadata, FWPS_METADATA_FIELD_PROCESS_ID));
    EXPECT_FALSE(
        FWPS_IS_METADATA_FIELD_PRESENT(&metadata, FWPS_METADATA_FIELD_PROCESS_ID | FWPS_METADATA_FIELD_FLOW_HANDLE));
}

} // namespace
