// Fuzzes DeviceIoControl: known and unknown codes, of every method, with input and output of any length.
// Then it sends traffic with the options that are set. The driver may not write behind the length that it returns.
#include "computer.h"

namespace
{

constexpr uint32_t kCodes[] = {IOCTL_NETVERDICT_VERSION,           IOCTL_NETVERDICT_SHUTDOWN_REQUEST,
                               IOCTL_NETVERDICT_GET_CAPABILITIES,  IOCTL_NETVERDICT_SET_OPTIONS,
                               IOCTL_NETVERDICT_GET_STATISTICS,    IOCTL_NETVERDICT_GET_CONNECTIONS,
                               IOCTL_NETVERDICT_UPDATE_CONNECTION, IOCTL_NETVERDICT_KEEPALIVE};
constexpr uint8_t kUntouched = 0xC3;

uint32_t ReadCode(fuzz::Input &input)
{
    const uint8_t choice = input.Byte();

    if (choice < 0xE0)
    {
        return kCodes[choice % std::size(kCodes)];
    }
    return choice < 0xF0 ? PROTOCOL_IOCTL(input.Byte()) | (choice & 3) : input.Number<uint32_t>();
}

void Control(fuzz::Computer &computer, fuzz::Input &input)
{
    const uint32_t code = ReadCode(input);
    const uint32_t length = input.Number<uint16_t>() % 1024;
    const fuzz::ByteVector in = input.Bytes(input.Byte());
    fuzz::ByteVector out(length, kUntouched);
    const sim::nt::IoResult result = computer.machine().io().DeviceControlAndWait(
        computer.client().file(), code, in.data(), static_cast<uint32_t>(in.size()), out.data(), length);

    ASSERT_LE(result.information, length);
    if ((code & 3) == METHOD_BUFFERED)
    {
        EXPECT_TRUE(std::all_of(out.begin() + static_cast<ptrdiff_t>(result.information), out.end(),
                                [](uint8_t byte) { return byte == kUntouched; }));
    }
    EXPECT_TRUE(code != IOCTL_NETVERDICT_GET_STATISTICS || length < sizeof(UINT32) || NT_SUCCESS(result.status));
}

void Traffic(fuzz::Computer &computer, uint8_t choice)
{
    const fuzz::Flow flow = fuzz::Computer::FlowOf(choice);
    const fuzz::ByteVector packet = kext_test::MakePacket(flow);

    computer.network().Connect(flow, flow.protocol == PROTOCOL_TCP ? nullptr : &packet, {});
    computer.network().Outbound(packet);
    for (const fuzz::Question &question : computer.client().ReadQuestions())
    {
        computer.client().Verdict(question.id, choice % VerdictCount);
    }
    computer.machine().clock().Advance(std::chrono::milliseconds(choice));
    computer.Settle();
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz::Input input(data, size);
    fuzz::ClientLife life;
    fuzz::Computer &computer = life.computer();

    while (!input.empty())
    {
        Control(computer, input);
        Traffic(computer, input.Byte());
    }
    return 0;
}
