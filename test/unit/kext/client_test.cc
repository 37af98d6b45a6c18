#include "client.h"

#include "kext_test.h"

namespace
{

class ClientTest : public kext_test::KextTest
{
  protected:
    ClientTest() { EXPECT_EQ(ClientInitialize(&client_, &memory_), STATUS_SUCCESS); }
    ~ClientTest() override { ClientUninitialize(&client_); }

    CLIENT client_;
};

TEST_F(ClientTest, AClassifyReadsAllFlagsOfTheOptionsInForceAsOneWord)
{
    OPTIONS options = {};

    EXPECT_EQ(ReadNoFence(&client_.Flags), 0);
    OptionsSetDefaults(&options);
    options.Flags = OPTION_FLAG_DROP_STRAY_RESETS | OPTION_FLAG_ASK_CONTROL_TRAFFIC | OPTION_FLAG_PERMIT_LOOPBACK |
                    OPTION_FLAG_CONNECTION_INFO;
    ClientSetOptions(&client_, &options);
    EXPECT_EQ(static_cast<UINT32>(ReadNoFence(&client_.Flags)), options.Flags);

    // The next client's defaults.
    OptionsSetDefaults(&options);
    ClientSetOptions(&client_, &options);
    EXPECT_EQ(ReadNoFence(&client_.Flags), 0);
}

} // namespace
