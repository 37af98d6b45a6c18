#include "wfp_fixture.h"

#include "byte_order.h"

namespace sim::wfp
{
namespace
{

class WfpIpHeader : public WfpTest
{
  protected:
    WfpIpHeader()
    {
        pool = machine.net_buffers().CreatePool(ndis::PoolOwner::kDriver, 'tseT', 0, true);
        EXPECT_EQ(FwpsAllocateNetBufferAndNetBufferList0(pool, 0, 0, packet.mdl(), 48, 8, &list), STATUS_SUCCESS);
    }

    ~WfpIpHeader() override
    {
        FwpsFreeNetBufferList0(list);
        machine.net_buffers().DestroyPool(pool);
    }

    NTSTATUS Construct(ADDRESS_FAMILY family, const UCHAR *source, const UCHAR *remote)
    {
        return FwpsConstructIpHeaderForTransportPacket0(list, 0, family, source, remote, IPPROTO_UDP, 0, nullptr, 0, 0,
                                                        nullptr, 0, 0);
    }

    PacketBytes packet{std::vector<uint8_t>(56, 0xAA)};
    NDIS_HANDLE pool = nullptr;
    NET_BUFFER_LIST *list = nullptr;
};

TEST_F(WfpIpHeader, Ipv4HeaderHasLengthProtocolAddressesAndChecksum)
{
    const UCHAR source[4] = {192, 0, 2, 1};
    const UCHAR remote[4] = {198, 51, 100, 2};
    uint32_t sum = 0;

    ASSERT_EQ(Construct(AF_INET, source, remote), STATUS_SUCCESS);
    ASSERT_EQ(NET_BUFFER_DATA_LENGTH(list->FirstNetBuffer), 28u);
    const uint8_t *header = packet.bytes() + 28;
    EXPECT_EQ(header[0], 0x45);
    EXPECT_EQ(header[3], 28);
    EXPECT_EQ(header[9], 17);
    EXPECT_EQ(header[12], 192);
    EXPECT_EQ(header[19], 2);
    for (int i = 0; i < 20; i += 2)
    {
        sum += LoadBig16(header + i);
    }
    EXPECT_EQ((sum & 0xFFFF) + (sum >> 16), 0xFFFFu);
}

TEST_F(WfpIpHeader, Ipv6HeaderHasPayloadLengthNextHeaderAndAddresses)
{
    const UCHAR source[16] = {0xfe, 0x80};
    const UCHAR remote[16] = {0xfd, 0x77};

    ASSERT_EQ(Construct(AF_INET6, source, remote), STATUS_SUCCESS);
    ASSERT_EQ(NET_BUFFER_DATA_LENGTH(list->FirstNetBuffer), 48u);
    const uint8_t *header = packet.bytes() + 8;
    EXPECT_EQ(header[0], 0x60);
    EXPECT_EQ(header[5], 8);
    EXPECT_EQ(header[6], 17);
    EXPECT_EQ(header[8], 0xfe);
    EXPECT_EQ(header[24], 0xfd);
}

TEST_F(WfpIpHeader, UnknownFamilyIsRefused)
{
    const UCHAR address[16] = {};

    EXPECT_EQ(Construct(AF_UNSPEC, address, address), STATUS_INVALID_PARAMETER);
}

} // namespace
} // namespace sim::wfp
