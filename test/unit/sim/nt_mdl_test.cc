#include "nt_fixture.h"

#include <vector>

namespace sim::test
{
namespace
{

class MdlTest : public ::testing::Test
{
  protected:
    TestMachine machine;
    alignas(PAGE_SIZE) char bytes[3 * PAGE_SIZE] = {};
};

TEST_F(MdlTest, DescribesItsBuffer)
{
    PMDL mdl = IoAllocateMdl(bytes + 100, 5000, FALSE, FALSE, nullptr);

    EXPECT_EQ(MmGetMdlByteCount(mdl), 5000u);
    EXPECT_EQ(MmGetMdlByteOffset(mdl), 100u);
    EXPECT_EQ(MmGetMdlVirtualAddress(mdl), bytes + 100);
    EXPECT_EQ(mdl->Size, static_cast<CSHORT>(sizeof(MDL) + 2 * sizeof(PFN_NUMBER)));
    MmBuildMdlForNonPagedPool(mdl);
    EXPECT_EQ(MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority), bytes + 100);
    IoFreeMdl(mdl);
}

TEST_F(MdlTest, IsAnIrpsFirstOrSecondaryBuffer)
{
    IRP irp{};
    PMDL first = IoAllocateMdl(bytes, 10, FALSE, FALSE, &irp);
    PMDL second = IoAllocateMdl(bytes, 20, TRUE, FALSE, &irp);
    PMDL third = IoAllocateMdl(bytes, 30, TRUE, FALSE, &irp);

    EXPECT_EQ(irp.MdlAddress, first);
    EXPECT_EQ(first->Next, second);
    EXPECT_EQ(second->Next, third);
    for (PMDL mdl : {first, second, third})
    {
        IoFreeMdl(mdl);
    }
}

TEST_F(MdlTest, PartialMdlDescribesAPart)
{
    PMDL whole = IoAllocateMdl(bytes, 6000, FALSE, FALSE, nullptr);
    PMDL piece = IoAllocateMdl(bytes + 4090, 100, FALSE, FALSE, nullptr);

    MmBuildMdlForNonPagedPool(whole);
    IoBuildPartialMdl(whole, piece, bytes + 4090, 100);
    EXPECT_EQ(MmGetSystemAddressForMdlSafe(piece, NormalPagePriority), bytes + 4090);
    EXPECT_EQ(MmGetMdlByteCount(piece), 100u);
    IoBuildPartialMdl(whole, piece, bytes + 5900, 0);
    EXPECT_EQ(MmGetMdlByteCount(piece), 100u) << "0: to the end";
    IoFreeMdl(piece);
    IoFreeMdl(whole);
}

TEST_F(MdlTest, AllocationMayFail)
{
    machine->faults().FailAll();
    EXPECT_EQ(IoAllocateMdl(bytes, 10, FALSE, FALSE, nullptr), nullptr);
    machine->faults().Stop();
}

TEST(MdlDeathTest, MappingWithoutLockedPagesIsFound)
{
    EXPECT_DEATH(
        {
            TestMachine machine;
            char byte;
            PMDL mdl = IoAllocateMdl(&byte, 1, FALSE, FALSE, nullptr);

            MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority);
        },
        "BUGCHECK MDL_NOT_LOCKED");
}

TEST(MdlDeathTest, PartialMdlOutsideOfItsSourceIsFound)
{
    EXPECT_DEATH(
        {
            TestMachine machine;
            char bytes[10];
            PMDL whole = IoAllocateMdl(bytes, 10, FALSE, FALSE, nullptr);
            PMDL piece = IoAllocateMdl(bytes, 10, FALSE, FALSE, nullptr);

            IoBuildPartialMdl(whole, piece, bytes + 5, 6);
        },
        "BUGCHECK MDL_PARTIAL_OUTSIDE");
}

TEST(MdlDeathTest, LeakIsReportedWithItsTag)
{
    EXPECT_DEATH(
        {
            TestMachine machine;
            char byte;

            IoAllocateMdl(&byte, 1, FALSE, FALSE, nullptr);
        },
        "BUGCHECK POOL_LEAK(.|\n)*'Mdl '");
}

} // namespace
} // namespace sim::test
