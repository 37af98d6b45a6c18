#include "nt_fixture.h"

#include <ntstrsafe.h>

#include <cstring>
#include <thread>
#include <vector>

#include "nt/debug_port.h"

namespace sim::test
{
namespace
{

int Format(char *buffer, size_t count, const char *format, ...) __attribute__((format(printf, 3, 4)));

int Format(char *buffer, size_t count, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    int length = _vsnprintf(buffer, count, format, arguments);
    va_end(arguments);
    return length;
}

TEST(FormatTest, TerminatesOnlyWhereThereIsRoom)
{
    char buffer[6];

    std::memset(buffer, '#', sizeof(buffer));
    EXPECT_EQ(Format(buffer, 5, "%d", 123), 3);
    EXPECT_EQ(std::string(buffer, 6), std::string("123\0##", 6));

    std::memset(buffer, '#', sizeof(buffer));
    EXPECT_EQ(Format(buffer, 5, "%d", 12345), 5);
    EXPECT_EQ(std::string(buffer, 6), "12345#");

    std::memset(buffer, '#', sizeof(buffer));
    EXPECT_EQ(Format(buffer, 5, "%d", 123456), -1);
    EXPECT_EQ(std::string(buffer, 6), "12345#");
}

TEST(FormatTest, SafePrintfAlwaysTerminates)
{
    char buffer[6];

    EXPECT_EQ(RtlStringCbPrintfA(buffer, sizeof(buffer), "%d", 12345), STATUS_SUCCESS);
    EXPECT_STREQ(buffer, "12345");
    EXPECT_EQ(RtlStringCbPrintfA(buffer, sizeof(buffer), "%d", 1234567), STATUS_BUFFER_OVERFLOW);
    EXPECT_STREQ(buffer, "12345");
    EXPECT_EQ(RtlStringCbPrintfA(buffer, 0, "x"), STATUS_INVALID_PARAMETER);
}

TEST(SafeStringTest, CopyAndAppendTruncate)
{
    char buffer[6];
    SIZE_T length;

    EXPECT_EQ(RtlStringCbCopyA(buffer, sizeof(buffer), "abc"), STATUS_SUCCESS);
    EXPECT_EQ(RtlStringCbCatA(buffer, sizeof(buffer), "de"), STATUS_SUCCESS);
    EXPECT_STREQ(buffer, "abcde");
    EXPECT_EQ(RtlStringCbCatA(buffer, sizeof(buffer), "f"), STATUS_BUFFER_OVERFLOW);
    EXPECT_STREQ(buffer, "abcde");
    EXPECT_EQ(RtlStringCbLengthA(buffer, sizeof(buffer), &length), STATUS_SUCCESS);
    EXPECT_EQ(length, 5u);
    EXPECT_EQ(RtlStringCbLengthA(buffer, 5, &length), STATUS_INVALID_PARAMETER);
}

TEST(UnicodeStringTest, CountsBytesWithoutTheTerminator)
{
    UNICODE_STRING string = Unicode(u"abc");

    EXPECT_EQ(string.Length, 6);
    EXPECT_EQ(string.MaximumLength, 8);
    RtlInitUnicodeString(&string, nullptr);
    EXPECT_EQ(string.Length, 0);
    EXPECT_EQ(string.Buffer, nullptr);
}

TEST(UnicodeStringTest, ComparesWithAndWithoutCase)
{
    UNICODE_STRING lower = Unicode(u"gr\u00fc\u00dfe \u03b1 \u0436 \u0451");
    UNICODE_STRING upper = Unicode(u"GR\u00dc\u00dfE \u0391 \u0416 \u0401");
    UNICODE_STRING prefix = Unicode(u"gR\u00fc");
    UNICODE_STRING other = Unicode(u"gr\u00fd");

    EXPECT_TRUE(RtlEqualUnicodeString(&lower, &upper, TRUE));
    EXPECT_FALSE(RtlEqualUnicodeString(&lower, &upper, FALSE));
    EXPECT_TRUE(RtlPrefixUnicodeString(&prefix, &lower, TRUE));
    EXPECT_FALSE(RtlPrefixUnicodeString(&lower, &prefix, TRUE));
    EXPECT_LT(RtlCompareUnicodeString(&prefix, &lower, TRUE), 0);
    EXPECT_LT(RtlCompareUnicodeString(&prefix, &other, TRUE), 0);
    EXPECT_EQ(RtlUpcaseUnicodeChar(0xF7), 0xF7) << "the division sign is no letter";
}

TEST(UnicodeStringTest, CopiesAndAppendsWithinItsBuffer)
{
    WCHAR buffer[4];
    UNICODE_STRING string = {0, sizeof(buffer), buffer};
    UNICODE_STRING source = Unicode(u"abc");

    RtlCopyUnicodeString(&string, &source);
    EXPECT_EQ(string.Length, 6);
    source = Unicode(u"de");
    EXPECT_EQ(RtlAppendUnicodeStringToString(&string, &source), STATUS_BUFFER_TOO_SMALL);
    source = Unicode(u"d");
    EXPECT_EQ(RtlAppendUnicodeStringToString(&string, &source), STATUS_SUCCESS);
    EXPECT_EQ(std::u16string(reinterpret_cast<char16_t *>(buffer), 4), u"abcd");
}

TEST(MemoryTest, CompareCountsEqualBytes)
{
    EXPECT_EQ(RtlCompareMemory("abcd", "abxd", 4), 2u);
    EXPECT_EQ(RtlCompareMemory("abcd", "abcd", 4), 4u);
    EXPECT_TRUE(RtlEqualMemory("abcd", "abcd", 4));
}

TEST(MemoryTest, SecureZeroClears)
{
    char secret[4] = "key";

    RtlSecureZeroMemory(secret, sizeof(secret));
    EXPECT_EQ(std::string(secret, 4), std::string(4, '\0'));
}

TEST(RandomTest, DependsOnTheSeedAndMovesIt)
{
    ULONG seed = 0;
    ULONG same_seed = 0;
    ULONG other_seed = 7;
    ULONG first = RtlRandomEx(&seed);

    EXPECT_EQ(RtlRandomEx(&same_seed), first);
    EXPECT_NE(RtlRandomEx(&other_seed), first);
    EXPECT_NE(RtlRandomEx(&seed), first);
}

TEST(DebugPortTest, DebugOutputGoesToTheSink)
{
    TestMachine machine;
    std::vector<std::string> lines;

    DbgPrint("thrown away\n");
    machine->debug().SetSink([&lines](const std::string &text) { lines.push_back(text); });
    DbgPrintEx(DPFLTR_IHVNETWORK_ID, DPFLTR_ERROR_LEVEL, "%s %d\n", "answer", 42);
    EXPECT_EQ(lines, std::vector<std::string>{"answer 42\n"});
}

TEST(ListTest, KeepsOrderAtBothEnds)
{
    LIST_ENTRY head;
    LIST_ENTRY entries[3];

    InitializeListHead(&head);
    EXPECT_TRUE(IsListEmpty(&head));
    InsertTailList(&head, &entries[1]);
    InsertTailList(&head, &entries[2]);
    InsertHeadList(&head, &entries[0]);
    EXPECT_FALSE(RemoveEntryList(&entries[1]));
    EXPECT_EQ(RemoveTailList(&head), &entries[2]);
    EXPECT_EQ(RemoveHeadList(&head), &entries[0]);
    EXPECT_TRUE(IsListEmpty(&head));
}

TEST(InterlockedTest, ReturnsWhatWindowsReturns)
{
    LONG value = 5;
    LONG64 wide = 5;
    PVOID pointer = nullptr;

    EXPECT_EQ(InterlockedIncrement(&value), 6);
    EXPECT_EQ(InterlockedDecrement(&value), 5);
    EXPECT_EQ(InterlockedAdd(&value, 2), 7);
    EXPECT_EQ(InterlockedExchangeAdd(&value, 3), 7);
    EXPECT_EQ(InterlockedExchange(&value, 12), 10);
    EXPECT_EQ(InterlockedCompareExchange(&value, 1, 99), 12);
    EXPECT_EQ(InterlockedCompareExchange(&value, 1, 12), 12);
    EXPECT_EQ(InterlockedOr(&value, 6), 1);
    EXPECT_EQ(InterlockedAnd(&value, 3), 7);
    EXPECT_EQ(InterlockedXor(&value, 1), 3);
    EXPECT_EQ(ReadAcquire(&value), 2);
    EXPECT_EQ(InterlockedBitTestAndSet(&value, 0), 0);
    EXPECT_EQ(InterlockedBitTestAndReset(&value, 0), 1);
    EXPECT_EQ(InterlockedIncrement64(&wide), 6);
    EXPECT_EQ(InterlockedExchangeAddNoFence64(&wide, 1), 6);
    WriteRelease64(&wide, 1);
    EXPECT_EQ(ReadNoFence64(&wide), 1);
    EXPECT_EQ(InterlockedExchangePointer(&pointer, &value), nullptr);
    EXPECT_EQ(InterlockedCompareExchangePointer(&pointer, nullptr, &value), &value);
    EXPECT_EQ(ReadPointerAcquire(&pointer), nullptr);
}

TEST(ProcessTest, IdsAreStableAndThreadsDiffer)
{
    HANDLE other = nullptr;
    HANDLE own = PsGetCurrentThreadId();

    std::thread([&other] { other = PsGetCurrentThreadId(); }).join();
    EXPECT_EQ(PsGetCurrentThreadId(), own);
    EXPECT_NE(other, own);
    EXPECT_NE(PsGetCurrentProcessId(), nullptr);
}

TEST(RuntimeDeathTest, RemovingAnEntryTwiceIsFound)
{
    EXPECT_DEATH(
        {
            LIST_ENTRY head;
            LIST_ENTRY entries[2];

            InitializeListHead(&head);
            InsertTailList(&head, &entries[0]);
            InsertTailList(&head, &entries[1]);
            RemoveEntryList(&entries[0]);
            RemoveEntryList(&entries[0]);
        },
        "BUGCHECK LIST_CORRUPTED");
}

TEST(RuntimeDeathTest, WideFormatsAreFound)
{
    for (const char *format : {"%ws", "%wZ", "%-10S", "%ls", "100%% %ws"})
    {
        char buffer[16];
        UNICODE_STRING string = Unicode(u"x");

        EXPECT_DEATH(_snprintf(buffer, sizeof(buffer), format, &string), "BUGCHECK WIDE_FORMAT") << format;
    }
}

TEST(RuntimeDeathTest, BugchecksAndAssertionsOfADriverEndTheMachine)
{
    EXPECT_DEATH(KeBugCheckEx(0xE2, 1, 2, 3, 4), "BUGCHECK DRIVER_BUGCHECK: code 0x000000E2");
    EXPECT_DEATH(NT_ASSERT(1 + 1 == 3), "BUGCHECK ASSERTION: 1 \\+ 1 == 3");
}

} // namespace
} // namespace sim::test
