#include "nt_fixture.h"

#include "nt/registry.h"

#include <cstring>

namespace sim::test
{
namespace
{

constexpr char16_t kKey[] = u"\\Registry\\Machine\\Software\\Test";

class RegistryTest : public ::testing::Test
{
  protected:
    static NTSTATUS Open(const char16_t *path, HANDLE *key, HANDLE root = nullptr, ULONG flags = OBJ_KERNEL_HANDLE)
    {
        OBJECT_ATTRIBUTES attributes;
        UNICODE_STRING name = Unicode(path);

        InitializeObjectAttributes(&attributes, &name, flags | OBJ_CASE_INSENSITIVE, root, nullptr);
        return ZwOpenKey(key, KEY_READ, &attributes);
    }

    // `room`: bytes for the value's data.
    NTSTATUS Query(HANDLE key, const char16_t *name, ULONG room)
    {
        UNICODE_STRING string = Unicode(name);

        return ZwQueryValueKey(key, &string, KeyValuePartialInformation, &buffer_.information, kHeader + room,
                               &length_);
    }

    static constexpr ULONG kHeader = offsetof(KEY_VALUE_PARTIAL_INFORMATION, Data);

    TestMachine machine;
    union
    {
        UCHAR bytes[64];
        KEY_VALUE_PARTIAL_INFORMATION information;
    } buffer_{};
    ULONG length_ = 0;
};

using RegistryDeathTest = RegistryTest;

TEST_F(RegistryTest, AValueIsReadByTheNameOfItsKeyInAnyCase)
{
    HANDLE key = nullptr;
    uint32_t number = 0;

    machine->registry().SetDword(kKey, u"Number", 7);
    ASSERT_EQ(Open(u"\\REGISTRY\\machine\\software\\TEST", &key), STATUS_SUCCESS);
    EXPECT_EQ(Query(key, u"NUMBER", sizeof(number)), STATUS_SUCCESS);
    EXPECT_EQ(buffer_.information.Type, REG_DWORD);
    EXPECT_EQ(buffer_.information.DataLength, sizeof(number));
    EXPECT_EQ(length_, kHeader + sizeof(number));
    std::memcpy(&number, buffer_.information.Data, sizeof(number));
    EXPECT_EQ(number, 7u);
    EXPECT_EQ(ZwClose(key), STATUS_SUCCESS);
    EXPECT_EQ(machine->registry().Left(), "");
}

TEST_F(RegistryTest, AKeyIsOpenedBelowAnother)
{
    HANDLE root = nullptr;
    HANDLE key = nullptr;

    machine->registry().AddKey(kKey);
    machine->registry().AddKey(std::u16string(kKey) + u"\\Below");
    ASSERT_EQ(Open(kKey, &root), STATUS_SUCCESS);
    EXPECT_EQ(Open(u"Below", &key, root), STATUS_SUCCESS);
    ZwClose(key);
    EXPECT_EQ(Open(u"Beside", &key, root), STATUS_OBJECT_NAME_NOT_FOUND);
    ZwClose(root);
}

TEST_F(RegistryTest, AbsentKeysAndValuesAreNotFound)
{
    HANDLE key = nullptr;

    EXPECT_EQ(Open(kKey, &key), STATUS_OBJECT_NAME_NOT_FOUND);
    machine->registry().AddKey(kKey);
    ASSERT_EQ(Open(kKey, &key), STATUS_SUCCESS);
    EXPECT_EQ(Query(key, u"Number", 4), STATUS_OBJECT_NAME_NOT_FOUND);
    ZwClose(key);
}

TEST_F(RegistryTest, AValueThatDoesNotFitGivesItsLength)
{
    HANDLE key = nullptr;

    machine->registry().SetValue(kKey, u"Bytes", 3, std::vector<uint8_t>(16, 0xAB));
    ASSERT_EQ(Open(kKey, &key), STATUS_SUCCESS);
    EXPECT_EQ(Query(key, u"Bytes", 15), STATUS_BUFFER_OVERFLOW);
    EXPECT_EQ(buffer_.information.DataLength, 16u);
    EXPECT_EQ(length_, kHeader + 16);
    EXPECT_EQ(buffer_.bytes[kHeader + 14], 0xAB);
    EXPECT_EQ(buffer_.bytes[kHeader + 15], 0);

    UNICODE_STRING name = Unicode(u"Bytes");

    EXPECT_EQ(ZwQueryValueKey(key, &name, KeyValuePartialInformation, nullptr, 0, &length_), STATUS_BUFFER_TOO_SMALL);
    ZwClose(key);
}

TEST_F(RegistryTest, OpeningAndReadingMayFail)
{
    HANDLE key = nullptr;

    machine->registry().SetDword(kKey, u"Number", 7);
    ASSERT_EQ(Open(kKey, &key), STATUS_SUCCESS);
    machine->faults().FailAll();
    EXPECT_EQ(Query(key, u"Number", 4), STATUS_INSUFFICIENT_RESOURCES);
    ZwClose(key);
    EXPECT_EQ(Open(kKey, &key), STATUS_INSUFFICIENT_RESOURCES);
    machine->faults().Stop();
}

TEST_F(RegistryDeathTest, AKeyThatUserModeCouldUseIsFound)
{
    HANDLE key = nullptr;

    EXPECT_DEATH(Open(kKey, &key, nullptr, 0), "BUGCHECK USER_MODE_HANDLE: ");
}

TEST_F(RegistryDeathTest, AKeyThatIsClosedTwiceIsFound)
{
    HANDLE key = nullptr;

    machine->registry().AddKey(kKey);
    ASSERT_EQ(Open(kKey, &key), STATUS_SUCCESS);
    ZwClose(key);
    EXPECT_DEATH(ZwClose(key), "BUGCHECK INVALID_KERNEL_HANDLE: ");
}

TEST_F(RegistryDeathTest, AKeyThatADriverLeavesOpenIsFound)
{
    TestDriver driver;
    HANDLE key = nullptr;

    machine->registry().AddKey(kKey);
    driver.entry = [&](PDRIVER_OBJECT, PUNICODE_STRING)
    {
        Open(kKey, &key);
        return STATUS_SUCCESS;
    };
    driver.Load(*machine);
    EXPECT_DEATH(machine->io().UnloadDriver(driver.object), "BUGCHECK REGISTRY_KEY_NOT_CLOSED: ");
    ZwClose(key);
    machine->io().UnloadDriver(driver.object);
}

TEST_F(RegistryTest, ADriverFindsItsServiceKey)
{
    TestDriver driver;
    NTSTATUS status = STATUS_UNSUCCESSFUL;
    HANDLE key = nullptr;

    driver.entry = [&](PDRIVER_OBJECT, PUNICODE_STRING path)
    {
        OBJECT_ATTRIBUTES attributes;

        InitializeObjectAttributes(&attributes, path, OBJ_KERNEL_HANDLE, nullptr, nullptr);
        status = ZwOpenKey(&key, KEY_READ, &attributes);
        ZwClose(key);
        return STATUS_SUCCESS;
    };
    driver.Load(*machine);
    EXPECT_EQ(status, STATUS_SUCCESS);
    machine->io().UnloadDriver(driver.object);
}

} // namespace
} // namespace sim::test
