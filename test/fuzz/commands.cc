// Fuzzes the writes of a client: any bytes, in several writes, while connections and packets are held.
// The driver keeps answering, and reports for each write how many bytes it has processed.
#include "computer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz::Input input(data, size);
    fuzz::ClientLife life;
    fuzz::Computer &computer = life.computer();
    fuzz::Client &client = computer.client();
    const uint8_t flows = input.Byte();

    for (uint8_t i = 0; i < flows % 8; i++)
    {
        const fuzz::Flow flow = fuzz::Computer::FlowOf(static_cast<uint8_t>(flows + i));
        const fuzz::ByteVector packet = kext_test::MakePacket(flow);

        computer.network().Connect(flow, flow.protocol == PROTOCOL_TCP ? nullptr : &packet, {});
        computer.network().Outbound(packet);
    }
    while (!input.empty())
    {
        const fuzz::ByteVector bytes = input.CountedBytes();
        const sim::nt::IoResult result = client.Write(bytes);

        EXPECT_TRUE(result.status == STATUS_SUCCESS || result.status == STATUS_INVALID_PARAMETER ||
                    result.status == STATUS_CANCELLED)
            << std::hex << result.status;
        EXPECT_LE(result.information, bytes.size());
        EXPECT_TRUE(result.status != STATUS_SUCCESS || result.information == bytes.size());
        computer.Settle();
    }
    client.Read();
    client.GetStatistics();
    return 0;
}
