#include "parameters.h"

#include "load_fixture.h"
#include "support/device_client.h"

#include "nt/fault_injection.h"
#include "nt/registry.h"

#include <gmock/gmock.h>

namespace kext_test
{
namespace
{

using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr char16_t kService[] = u"NetVerdict";
constexpr uint32_t kRegBinary = 3;
constexpr uint32_t kRegQword = 11;

class ParametersTest : public BareMachineTest
{
  protected:
    ~ParametersTest() override { Unload(); }

    std::u16string Key() const { return sim::nt::Registry::ServiceKey(kService) + u"\\Parameters"; }

    UINT32 ReadDword()
    {
        std::u16string service = sim::nt::Registry::ServiceKey(kService);
        UNICODE_STRING path;

        RtlInitUnicodeString(&path, reinterpret_cast<PCWSTR>(service.c_str()));
        return ParametersReadDword(&path, L"Value");
    }

    bool BaseReadsPend() { return driver_.context()->Queue.BaseReadsPend != FALSE; }

    std::vector<std::string> Logs()
    {
        Client client(machine_);

        EXPECT_EQ(client.Open(), STATUS_SUCCESS);
        return client.GetLogs();
    }
};

TEST_F(ParametersTest, AValueIsRead)
{
    machine_.registry().AddKey(sim::nt::Registry::ServiceKey(kService));
    machine_.registry().SetDword(Key(), u"value", 0x12345678);
    EXPECT_EQ(ReadDword(), 0x12345678u);
}

TEST_F(ParametersTest, AnAbsentServiceKeyAnAbsentKeyAndAnAbsentValueGiveZero)
{
    EXPECT_EQ(ReadDword(), 0u);
    machine_.registry().AddKey(sim::nt::Registry::ServiceKey(kService));
    EXPECT_EQ(ReadDword(), 0u);
    machine_.registry().AddKey(Key());
    EXPECT_EQ(ReadDword(), 0u);
}

TEST_F(ParametersTest, AValueOfAnotherTypeOrLengthGivesZero)
{
    machine_.registry().AddKey(sim::nt::Registry::ServiceKey(kService));
    machine_.registry().SetValue(Key(), u"Value", kRegBinary, {1, 0, 0, 0});
    EXPECT_EQ(ReadDword(), 0u);
    machine_.registry().SetValue(Key(), u"Value", kRegQword, {1, 0, 0, 0, 0, 0, 0, 0});
    EXPECT_EQ(ReadDword(), 0u);
    machine_.registry().SetValue(Key(), u"Value", REG_DWORD, {1, 0});
    EXPECT_EQ(ReadDword(), 0u);
}

TEST_F(ParametersTest, AFailureToReadGivesZeroAndLeavesNoKeyOpen)
{
    constexpr uint64_t kCalls = 3; // two keys are opened, and one value is read

    machine_.registry().AddKey(sim::nt::Registry::ServiceKey(kService));
    machine_.registry().SetDword(Key(), u"Value", 1);
    for (uint64_t n = 0; n < kCalls; n++)
    {
        machine_.faults().FailNth(n);
        EXPECT_EQ(ReadDword(), 0u);
        EXPECT_EQ(machine_.faults().failures(), 1u);
        machine_.faults().Stop();
        EXPECT_EQ(machine_.registry().Left(), "");
    }
    EXPECT_EQ(ReadDword(), 1u);
}

TEST_F(ParametersTest, BaseReadsPendIsOffByDefaultAndNotLogged)
{
    ASSERT_EQ(driver_.Load(), STATUS_SUCCESS);
    EXPECT_FALSE(BaseReadsPend());
    EXPECT_THAT(Logs(), IsEmpty());
}

TEST_F(ParametersTest, BaseReadsPendIsReadAtTheLoadAndLogged)
{
    machine_.registry().SetDword(Key(), u"BaseReadsPend", 1);
    ASSERT_EQ(driver_.Load(), STATUS_SUCCESS);
    EXPECT_TRUE(BaseReadsPend());
    EXPECT_THAT(Logs(), Contains(HasSubstr("BaseReadsPend")));

    machine_.registry().SetDword(Key(), u"BaseReadsPend", 0);
    EXPECT_TRUE(BaseReadsPend()) << "only the load reads it";
    Unload();
    ASSERT_EQ(driver_.Load(), STATUS_SUCCESS);
    EXPECT_FALSE(BaseReadsPend());
}

TEST_F(ParametersTest, TheDriverOfAnotherServiceDoesNotReadIt)
{
    machine_.registry().SetDword(Key(), u"BaseReadsPend", 1);
    ASSERT_EQ(driver_.Load(u"Another"), STATUS_SUCCESS);
    EXPECT_FALSE(BaseReadsPend());
}

TEST_F(ParametersTest, AnUnreadableValueDoesNotFailTheLoad)
{
    machine_.registry().SetValue(Key(), u"BaseReadsPend", kRegBinary, {1});
    ASSERT_EQ(driver_.Load(), STATUS_SUCCESS);
    EXPECT_FALSE(BaseReadsPend());
}

} // namespace
} // namespace kext_test
