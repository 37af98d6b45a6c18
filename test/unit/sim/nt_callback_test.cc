#include "nt_fixture.h"

#include "nt/callback_object.h"

#include <atomic>
#include <thread>
#include <utility>
#include <vector>

namespace sim::test
{
namespace
{

class CallbackTest : public ::testing::Test
{
  protected:
    static NTSTATUS Open(const WCHAR *name, PCALLBACK_OBJECT *object, bool create = false)
    {
        OBJECT_ATTRIBUTES attributes;
        UNICODE_STRING string;

        RtlInitUnicodeString(&string, name);
        InitializeObjectAttributes(&attributes, &string, OBJ_CASE_INSENSITIVE, nullptr, nullptr);
        return ExCreateCallback(object, &attributes, create ? TRUE : FALSE, TRUE);
    }

    TestMachine machine;
};

using Calls = std::vector<std::pair<uintptr_t, uintptr_t>>;

VOID Record(PVOID context, PVOID argument1, PVOID argument2)
{
    static_cast<Calls *>(context)->emplace_back(reinterpret_cast<uintptr_t>(argument1),
                                                reinterpret_cast<uintptr_t>(argument2));
}

TEST_F(CallbackTest, CallsRegisteredFunctionsWithTheirArguments)
{
    PCALLBACK_OBJECT object = nullptr;
    Calls calls;

    ASSERT_EQ(Open(L"\\callback\\PowerState", &object), STATUS_SUCCESS);
    PVOID registration = ExRegisterCallback(object, Record, &calls);
    machine->power_state().Notify(3, 1);
    ExUnregisterCallback(registration);
    machine->power_state().Notify(3, 0);
    EXPECT_EQ(calls, (Calls{{3, 1}}));
    ObDereferenceObject(object);
    EXPECT_EQ(machine->power_state().Left(), "");
}

TEST_F(CallbackTest, ASleepNotifiesBeforeAndAfterItAndAModernStandbyDoesNot)
{
    PCALLBACK_OBJECT object = nullptr;
    Calls calls;

    ASSERT_EQ(Open(L"\\Callback\\PowerState", &object), STATUS_SUCCESS);
    PVOID registration = ExRegisterCallback(object, Record, &calls);
    machine->Sleep(std::chrono::hours(1), SleepKind::kModernStandby);
    EXPECT_EQ(calls, Calls{});
    machine->Sleep(std::chrono::hours(1), SleepKind::kStandby);
    EXPECT_EQ(calls, (Calls{{PO_CB_SYSTEM_STATE_LOCK, 0}, {PO_CB_SYSTEM_STATE_LOCK, 1}}));
    ExUnregisterCallback(registration);
    ObDereferenceObject(object);
}

TEST_F(CallbackTest, OtherNamesAreUnknown)
{
    PCALLBACK_OBJECT object = nullptr;

    EXPECT_EQ(Open(L"\\Callback\\SetSystemTime", &object), STATUS_OBJECT_NAME_NOT_FOUND);
}

TEST_F(CallbackTest, ReportsWhatIsLeft)
{
    PCALLBACK_OBJECT object = nullptr;
    Calls calls;

    ASSERT_EQ(Open(L"\\Callback\\PowerState", &object), STATUS_SUCCESS);
    PVOID registration = ExRegisterCallback(object, Record, &calls);
    EXPECT_NE(machine->power_state().Left(), "");
    ExUnregisterCallback(registration);
    EXPECT_NE(machine->power_state().Left(), "");
    ObDereferenceObject(object);
    EXPECT_EQ(machine->power_state().Left(), "");
}

TEST_F(CallbackTest, UnregisteringWaitsForARunningCall)
{
    struct Seen
    {
        std::atomic<bool> entered{false};
        std::atomic<bool> leave{false};
        std::atomic<bool> left{false};
    } seen;
    PCALLBACK_OBJECT object = nullptr;

    ASSERT_EQ(Open(L"\\Callback\\PowerState", &object), STATUS_SUCCESS);
    PVOID registration = ExRegisterCallback(
        object,
        [](PVOID context, PVOID, PVOID)
        {
            auto *shared = static_cast<Seen *>(context);

            shared->entered = true;
            while (!shared->leave)
            {
                std::this_thread::yield();
            }
            shared->left = true;
        },
        &seen);
    std::thread notifier(
        [this]
        {
            Machine::Scope scope(*machine);

            machine->power_state().Notify(3, 0);
        });
    while (!seen.entered)
    {
        std::this_thread::yield();
    }
    std::thread release([&seen] { seen.leave = true; });
    ExUnregisterCallback(registration);
    EXPECT_TRUE(seen.left);
    notifier.join();
    release.join();
    ObDereferenceObject(object);
}

TEST(CallbackDeathTest, AReferenceReleasedTwiceIsFound)
{
    TestMachine machine;

    EXPECT_DEATH(ObDereferenceObject(&machine->power_state()), "OBJECT_DEREFERENCED_TWICE");
}

} // namespace
} // namespace sim::test
