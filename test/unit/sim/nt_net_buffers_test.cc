#include "nt_fixture.h"

#include <ndis.h>

#include <cstring>
#include <numeric>
#include <vector>

#include "ndis/net_buffers.h"

namespace sim::test
{
namespace
{

using ndis::PoolOwner;

// The bytes 0, 1, 2, ... in MDLs of the given sizes.
class DataChain
{
  public:
    explicit DataChain(const std::vector<ULONG> &sizes)
    {
        uint8_t next = 0;

        for (ULONG size : sizes)
        {
            pieces_.emplace_back(size);
            std::iota(pieces_.back().begin(), pieces_.back().end(), next);
            next = static_cast<uint8_t>(next + size);
        }
        for (std::vector<uint8_t> &piece : pieces_)
        {
            PMDL mdl = IoAllocateMdl(piece.data(), static_cast<ULONG>(piece.size()), FALSE, FALSE, nullptr);

            MmBuildMdlForNonPagedPool(mdl);
            if (!mdls_.empty())
            {
                mdls_.back()->Next = mdl;
            }
            mdls_.push_back(mdl);
        }
    }

    ~DataChain()
    {
        for (PMDL mdl : mdls_)
        {
            IoFreeMdl(mdl);
        }
    }

    PMDL first() { return mdls_.front(); }
    PMDL mdl(size_t index) { return mdls_[index]; }
    uint8_t *piece(size_t index) { return pieces_[index].data(); }

  private:
    std::vector<std::vector<uint8_t>> pieces_;
    std::vector<PMDL> mdls_;
};

// Returns a copy of a buffer's data, in whichever MDLs it lies.
std::vector<uint8_t> DataOf(NET_BUFFER *buffer)
{
    std::vector<uint8_t> storage(buffer->DataLength);
    uint8_t *data = static_cast<uint8_t *>(NdisGetDataBuffer(buffer, buffer->DataLength, storage.data(), 1, 0));

    return data == nullptr ? std::vector<uint8_t>() : std::vector<uint8_t>(data, data + buffer->DataLength);
}

std::vector<uint8_t> Range(uint8_t first, size_t count)
{
    std::vector<uint8_t> bytes(count);

    std::iota(bytes.begin(), bytes.end(), first);
    return bytes;
}

class NetBuffersTest : public ::testing::Test
{
  protected:
    void SetUp() override { pool = machine->net_buffers().CreatePool(PoolOwner::kDriver, kTag, 0, true); }
    void TearDown() override { machine->net_buffers().DestroyPool(pool); }

    NET_BUFFER_LIST *Allocate(DataChain &chain, uint32_t offset, size_t length)
    {
        return machine->net_buffers().Allocate(pool, 0, 0, chain.first(), offset, length);
    }

    TestMachine machine;
    NDIS_HANDLE pool = nullptr;
};

TEST_F(NetBuffersTest, ListDescribesItsData)
{
    DataChain chain({10, 20});
    NET_BUFFER_LIST *list = Allocate(chain, 12, 15);
    NET_BUFFER *buffer = NET_BUFFER_LIST_FIRST_NB(list);

    EXPECT_EQ(NET_BUFFER_LIST_NEXT_NBL(list), nullptr);
    EXPECT_EQ(NET_BUFFER_NEXT_NB(buffer), nullptr);
    EXPECT_EQ(NET_BUFFER_DATA_LENGTH(buffer), 15u);
    EXPECT_EQ(NET_BUFFER_DATA_OFFSET(buffer), 12u);
    EXPECT_EQ(NET_BUFFER_FIRST_MDL(buffer), chain.mdl(0));
    EXPECT_EQ(NET_BUFFER_CURRENT_MDL(buffer), chain.mdl(1));
    EXPECT_EQ(NET_BUFFER_CURRENT_MDL_OFFSET(buffer), 2u);
    EXPECT_EQ(DataOf(buffer), Range(12, 15));
    machine->net_buffers().Free(list);
}

TEST_F(NetBuffersTest, ListWithoutDataIsAllowed)
{
    NET_BUFFER_LIST *list = machine->net_buffers().Allocate(pool, 0, 0, nullptr, 0, 0);

    EXPECT_EQ(NET_BUFFER_DATA_LENGTH(list->FirstNetBuffer), 0u);
    EXPECT_EQ(NdisGetDataBuffer(list->FirstNetBuffer, 1, nullptr, 1, 0), nullptr);
    machine->net_buffers().Free(list);
}

TEST_F(NetBuffersTest, ContextDataIsAlignedBehindItsBackFill)
{
    NET_BUFFER_LIST *list = machine->net_buffers().Allocate(pool, 24, 8, nullptr, 0, 0);
    PUCHAR context = NET_BUFFER_LIST_CONTEXT_DATA_START(list);

    EXPECT_EQ(NET_BUFFER_LIST_CONTEXT_DATA_SIZE(list), 24);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(context) % MEMORY_ALLOCATION_ALIGNMENT, 0u);
    std::memset(context, 0xFF, 24);
    machine->net_buffers().Free(list);
}

TEST_F(NetBuffersTest, ExtensionIsZeroForEveryNewList)
{
    for (int i = 0; i < 3; i++)
    {
        NET_BUFFER_LIST *list = machine->net_buffers().Allocate(pool, 0, 0, nullptr, 0, 0);
        ndis::NetBufferListExtension &extension = ndis::ExtensionOf(list);

        for (void *slot : extension.wfp)
        {
            EXPECT_EQ(slot, nullptr);
        }
        extension.wfp[5] = list;
        machine->net_buffers().Free(list);
    }
}

TEST_F(NetBuffersTest, CountsLists)
{
    NET_BUFFER_LIST *list = machine->net_buffers().Allocate(pool, 0, 0, nullptr, 0, 0);
    uint8_t *data;
    NET_BUFFER_LIST *packet = machine->net_buffers().AllocatePacket(0, 10, &data);

    EXPECT_EQ(machine->net_buffers().allocated(PoolOwner::kDriver), 1);
    EXPECT_EQ(machine->net_buffers().allocated(PoolOwner::kStack), 1);
    machine->net_buffers().Free(list);
    machine->net_buffers().Free(packet);
    EXPECT_EQ(machine->net_buffers().allocated(PoolOwner::kDriver), 0);
    EXPECT_EQ(machine->net_buffers().allocated(PoolOwner::kStack), 0);
}

TEST_F(NetBuffersTest, PacketIsContiguousWithHeadroom)
{
    uint8_t *data;
    NET_BUFFER_LIST *packet = machine->net_buffers().AllocatePacket(20, 1500, &data);
    NET_BUFFER *buffer = packet->FirstNetBuffer;

    std::memset(data - 20, 7, 20);
    std::memset(data, 9, 1500);
    EXPECT_EQ(NdisGetDataBuffer(buffer, 1500, nullptr, 1, 0), data);
    EXPECT_EQ(NdisRetreatNetBufferDataStart(buffer, 20, 0, nullptr), NDIS_STATUS_SUCCESS);
    EXPECT_EQ(NdisGetDataBuffer(buffer, 1520, nullptr, 1, 0), data - 20);
    NdisAdvanceNetBufferDataStart(buffer, 20, FALSE, nullptr);
    machine->net_buffers().Free(packet);
    EXPECT_EQ(machine->pool().allocations(), 0) << "not the driver's memory";
}

TEST_F(NetBuffersTest, SeveralBuffersInOneList)
{
    DataChain chain({30});
    NET_BUFFER_LIST *list = Allocate(chain, 0, 10);

    machine->net_buffers().AddNetBuffer(list, chain.first(), 10, 5);
    machine->net_buffers().AddNetBuffer(list, chain.first(), 15, 15);

    NET_BUFFER *second = list->FirstNetBuffer->Next;

    EXPECT_EQ(DataOf(second), Range(10, 5));
    EXPECT_EQ(DataOf(second->Next), Range(15, 15));
    EXPECT_EQ(second->Next->Next, nullptr);
    machine->net_buffers().Free(list);
}

TEST_F(NetBuffersTest, DataBufferIsInPlaceWhenContiguous)
{
    DataChain chain({10, 20});
    NET_BUFFER_LIST *list = Allocate(chain, 5, 25);
    uint8_t storage[32];

    EXPECT_EQ(NdisGetDataBuffer(list->FirstNetBuffer, 5, storage, 1, 0), chain.piece(0) + 5);
    EXPECT_EQ(NdisGetDataBuffer(list->FirstNetBuffer, 6, storage, 1, 0), storage);
    EXPECT_EQ(std::memcmp(storage, Range(5, 6).data(), 6), 0);
    EXPECT_EQ(NdisGetDataBuffer(list->FirstNetBuffer, 6, nullptr, 1, 0), nullptr);
    EXPECT_EQ(NdisGetDataBuffer(list->FirstNetBuffer, 26, storage, 1, 0), nullptr);
    EXPECT_EQ(NdisGetDataBuffer(list->FirstNetBuffer, 0, storage, 1, 0), nullptr);
    machine->net_buffers().Free(list);
}

TEST_F(NetBuffersTest, DataBufferIsCopiedWhenNotAligned)
{
    DataChain chain({64});
    uint32_t odd = reinterpret_cast<uintptr_t>(chain.piece(0)) % 2 == 0 ? 1 : 0;
    NET_BUFFER_LIST *list = Allocate(chain, odd, 20);
    alignas(8) uint8_t storage[32];

    EXPECT_EQ(NdisGetDataBuffer(list->FirstNetBuffer, 4, storage, 2, 0), storage);
    EXPECT_EQ(NdisGetDataBuffer(list->FirstNetBuffer, 4, storage, 2, 1), chain.piece(0) + odd);
    machine->net_buffers().Free(list);
}

TEST_F(NetBuffersTest, AdvanceAndRetreatMoveOverMdlBorders)
{
    DataChain chain({4, 4, 8});
    NET_BUFFER_LIST *list = Allocate(chain, 0, 16);
    NET_BUFFER *buffer = list->FirstNetBuffer;

    NdisAdvanceNetBufferDataStart(buffer, 10, FALSE, nullptr);
    EXPECT_EQ(buffer->CurrentMdl, chain.mdl(2));
    EXPECT_EQ(buffer->CurrentMdlOffset, 2u);
    EXPECT_EQ(DataOf(buffer), Range(10, 6));
    EXPECT_EQ(ndis::RetreatBalance(buffer), -10);
    EXPECT_EQ(NdisRetreatNetBufferDataStart(buffer, 7, 0, nullptr), NDIS_STATUS_SUCCESS);
    EXPECT_EQ(buffer->CurrentMdl, chain.mdl(0));
    EXPECT_EQ(buffer->CurrentMdlOffset, 3u);
    EXPECT_EQ(DataOf(buffer), Range(3, 13));
    EXPECT_EQ(ndis::RetreatBalance(list), -3);
    machine->net_buffers().Free(list);
}

TEST_F(NetBuffersTest, AdvanceToTheEndLeavesNoData)
{
    DataChain chain({4, 4});
    NET_BUFFER_LIST *list = Allocate(chain, 0, 8);
    NET_BUFFER *buffer = list->FirstNetBuffer;

    NdisAdvanceNetBufferDataStart(buffer, 8, FALSE, nullptr);
    EXPECT_EQ(buffer->DataLength, 0u);
    EXPECT_EQ(NdisRetreatNetBufferDataStart(buffer, 8, 0, nullptr), NDIS_STATUS_SUCCESS);
    EXPECT_EQ(DataOf(buffer), Range(0, 8));
    machine->net_buffers().Free(list);
}

TEST_F(NetBuffersTest, RetreatBeyondTheStartAllocatesAnMdl)
{
    DataChain chain({20});
    NET_BUFFER_LIST *list = Allocate(chain, 8, 12);
    NET_BUFFER *buffer = list->FirstNetBuffer;
    int64_t before = machine->pool().allocations();

    ASSERT_EQ(NdisRetreatNetBufferDataStart(buffer, 20, 16, nullptr), NDIS_STATUS_SUCCESS);
    EXPECT_EQ(machine->pool().allocations(), before + 1);
    EXPECT_EQ(buffer->MdlChain->Next, chain.mdl(0));
    EXPECT_EQ(MmGetMdlByteCount(buffer->MdlChain), 36u);
    EXPECT_EQ(buffer->DataOffset, 24u) << "back fill, and the space that was unused before";
    EXPECT_EQ(buffer->DataLength, 32u);
    EXPECT_EQ(NdisGetDataBuffer(buffer, 20, nullptr, 1, 0), nullptr) << "the new bytes lie in two MDLs";

    std::vector<uint8_t> data = DataOf(buffer);

    EXPECT_EQ(std::vector<uint8_t>(data.begin() + 12, data.end()), Range(0, 20));
    NdisAdvanceNetBufferDataStart(buffer, 20, TRUE, nullptr);
    EXPECT_EQ(machine->pool().allocations(), before);
    EXPECT_EQ(buffer->MdlChain, chain.mdl(0));
    EXPECT_EQ(buffer->DataOffset, 8u);
    EXPECT_EQ(DataOf(buffer), Range(8, 12));
    EXPECT_EQ(ndis::RetreatBalance(buffer), 0);
    machine->net_buffers().Free(list);
}

TEST_F(NetBuffersTest, RetreatWithoutMemoryChangesNothing)
{
    DataChain chain({20});
    NET_BUFFER_LIST *list = Allocate(chain, 8, 12);
    NET_BUFFER *buffer = list->FirstNetBuffer;

    machine->faults().FailAll();
    EXPECT_EQ(NdisRetreatNetBufferDataStart(buffer, 20, 0, nullptr), NDIS_STATUS_RESOURCES);
    machine->faults().Stop();
    EXPECT_EQ(buffer->DataOffset, 8u);
    EXPECT_EQ(buffer->DataLength, 12u);
    EXPECT_EQ(ndis::RetreatBalance(buffer), 0);
    machine->net_buffers().Free(list);
}

uint8_t handler_memory[64];

PMDL NTAPI AllocateByHandler(PULONG size)
{
    *size = sizeof(handler_memory);

    PMDL mdl = IoAllocateMdl(handler_memory, sizeof(handler_memory), FALSE, FALSE, nullptr);

    MmBuildMdlForNonPagedPool(mdl);
    return mdl;
}

VOID NTAPI FreeByHandler(PMDL mdl)
{
    IoFreeMdl(mdl);
}

TEST_F(NetBuffersTest, RetreatUsesTheDriversOwnAllocation)
{
    DataChain chain({20});
    NET_BUFFER_LIST *list = Allocate(chain, 0, 20);
    NET_BUFFER *buffer = list->FirstNetBuffer;

    ASSERT_EQ(NdisRetreatNetBufferDataStart(buffer, 20, 0, AllocateByHandler), NDIS_STATUS_SUCCESS);
    EXPECT_EQ(NdisGetDataBuffer(buffer, 20, nullptr, 1, 0), handler_memory + 44);
    NdisAdvanceNetBufferDataStart(buffer, 20, TRUE, FreeByHandler);
    EXPECT_EQ(buffer->MdlChain, chain.mdl(0));
    machine->net_buffers().Free(list);
}

TEST_F(NetBuffersTest, CloneSharesTheBytes)
{
    DataChain chain({10, 20});
    NET_BUFFER_LIST *list = Allocate(chain, 4, 20);

    machine->net_buffers().AddNetBuffer(list, chain.first(), 25, 5);

    NET_BUFFER_LIST *clone = machine->net_buffers().Clone(list, nullptr);

    EXPECT_EQ(clone->ParentNetBufferList, list);
    EXPECT_EQ(list->ChildRefCount, 1);
    EXPECT_EQ(DataOf(clone->FirstNetBuffer), Range(4, 20));
    EXPECT_EQ(DataOf(clone->FirstNetBuffer->Next), Range(25, 5));
    EXPECT_NE(clone->FirstNetBuffer->MdlChain, list->FirstNetBuffer->MdlChain);
    chain.piece(0)[4] = 0xEE;
    EXPECT_EQ(DataOf(clone->FirstNetBuffer)[0], 0xEE);

    NdisAdvanceNetBufferDataStart(clone->FirstNetBuffer, 8, FALSE, nullptr);
    EXPECT_EQ(NET_BUFFER_DATA_LENGTH(list->FirstNetBuffer), 20u) << "the original's data start is its own";
    machine->net_buffers().FreeClone(clone);
    EXPECT_EQ(list->ChildRefCount, 0);
    machine->net_buffers().Free(list);
}

TEST_F(NetBuffersTest, AllocationsMayFailWithoutALeak)
{
    DataChain chain({10});
    NET_BUFFER_LIST *list = Allocate(chain, 0, 10);

    machine->net_buffers().AddNetBuffer(list, chain.first(), 0, 5);
    for (uint64_t n = 0;; n++)
    {
        machine->faults().FailNth(n);

        NET_BUFFER_LIST *clone = machine->net_buffers().Clone(list, nullptr);
        bool failed = machine->faults().failures() != 0;

        machine->faults().Stop();
        EXPECT_EQ(clone == nullptr, failed) << n;
        if (clone != nullptr)
        {
            machine->net_buffers().FreeClone(clone);
        }
        if (!failed)
        {
            break;
        }
    }
    EXPECT_EQ(list->ChildRefCount, 0);
    machine->net_buffers().Free(list);
    EXPECT_EQ(machine->net_buffers().allocated(PoolOwner::kDriver), 0);
}

TEST_F(NetBuffersTest, AllocationsOfTheStackDoNotFail)
{
    uint8_t *data;

    machine->faults().FailAll();

    NET_BUFFER_LIST *list = machine->net_buffers().Allocate(machine->net_buffers().stack_pool(), 0, 0, nullptr, 0, 0);
    NET_BUFFER_LIST *packet = machine->net_buffers().AllocatePacket(0, 10, &data);

    machine->faults().Stop();
    EXPECT_NE(list, nullptr);
    EXPECT_NE(packet, nullptr);
    machine->net_buffers().Free(list);
    machine->net_buffers().Free(packet);
}

TEST(NdisApiTest, PoolAndGenericObjectOfADriver)
{
    TestMachine machine;
    PNDIS_GENERIC_OBJECT object = NdisAllocateGenericObject(nullptr, kTag, 16);
    NET_BUFFER_LIST_POOL_PARAMETERS parameters{};

    parameters.Header = {NDIS_OBJECT_TYPE_DEFAULT, NET_BUFFER_LIST_POOL_PARAMETERS_REVISION_1,
                         NDIS_SIZEOF_NET_BUFFER_LIST_POOL_PARAMETERS_REVISION_1};
    parameters.fAllocateNetBuffer = TRUE;
    parameters.ContextSize = 32;
    parameters.PoolTag = kTag;

    NDIS_HANDLE pool = NdisAllocateNetBufferListPool(object, &parameters);
    NET_BUFFER_LIST *list = machine->net_buffers().Allocate(pool, 0, 0, nullptr, 0, 0);

    EXPECT_EQ(NET_BUFFER_LIST_CONTEXT_DATA_SIZE(list), 32);
    EXPECT_EQ(machine->net_buffers().DriverPoolsLeft(), "    pool 'Test' with 1 list(s)\n");
    machine->net_buffers().Free(list);
    NdisFreeNetBufferListPool(pool);
    NdisFreeGenericObject(object);
    EXPECT_EQ(machine->net_buffers().DriverPoolsLeft(), "");
    parameters.Header.Revision = 0;
    EXPECT_EQ(NdisAllocateNetBufferListPool(nullptr, &parameters), nullptr);
}

// A list of a driver's pool, for the tests of the rules.
struct Fixture
{
    TestMachine machine;
    NDIS_HANDLE pool = machine->net_buffers().CreatePool(PoolOwner::kDriver, kTag, 0, true);
    NET_BUFFER_LIST *list = machine->net_buffers().Allocate(pool, 0, 0, nullptr, 0, 0);
};

TEST(NetBuffersDeathTest, PoolFreedWithListsIsFound)
{
    EXPECT_DEATH(
        {
            Fixture fixture;

            NdisFreeNetBufferListPool(fixture.pool);
        },
        "BUGCHECK NET_BUFFER_POOL_IN_USE: .*'Test' is freed with 1 list");
}

TEST(NetBuffersDeathTest, ListFreedTwiceIsFound)
{
    EXPECT_DEATH(
        {
            Fixture fixture;

            fixture.machine->net_buffers().Free(fixture.list);
            fixture.machine->net_buffers().Free(fixture.list);
        },
        "BUGCHECK NET_BUFFER_LIST_FREED_TWICE");
}

TEST(NetBuffersDeathTest, ListFreedWithClonesIsFound)
{
    EXPECT_DEATH(
        {
            Fixture fixture;

            fixture.machine->net_buffers().Clone(fixture.list, nullptr);
            fixture.machine->net_buffers().Free(fixture.list);
        },
        "BUGCHECK NET_BUFFER_LIST_HAS_CLONES");
}

TEST(NetBuffersDeathTest, ListWrittenAfterFreeIsFound)
{
    EXPECT_DEATH(
        {
            Fixture fixture;

            fixture.machine->net_buffers().Free(fixture.list);
            fixture.list->Status = 1;
            fixture.machine->net_buffers().DestroyPool(fixture.pool);
        },
        "BUGCHECK NET_BUFFER_USE_AFTER_FREE|AddressSanitizer");
}

TEST(NetBuffersDeathTest, AdvanceBeyondTheDataIsFound)
{
    EXPECT_DEATH(
        {
            Fixture fixture;

            NdisAdvanceNetBufferDataStart(fixture.list->FirstNetBuffer, 1, FALSE, nullptr);
        },
        "BUGCHECK NET_BUFFER_ADVANCED_TOO_FAR");
}

TEST(NetBuffersDeathTest, StacksListFreedWithRetreatMemoryIsFound)
{
    EXPECT_DEATH(
        {
            TestMachine machine;
            uint8_t *data;
            NET_BUFFER_LIST *packet = machine->net_buffers().AllocatePacket(0, 10, &data);

            NdisRetreatNetBufferDataStart(packet->FirstNetBuffer, 20, 0, nullptr);
            NdisAdvanceNetBufferDataStart(packet->FirstNetBuffer, 20, FALSE, nullptr);
            machine->net_buffers().Free(packet);
        },
        "BUGCHECK NET_BUFFER_RETREAT_LEFT");
}

TEST(NetBuffersDeathTest, PoolLeftAtUnloadIsFound)
{
    EXPECT_DEATH(
        {
            TestMachine machine;
            TestDriver driver;

            driver.unload = [&machine] { machine->net_buffers().CreatePool(PoolOwner::kDriver, kTag, 0, true); };
            driver.Load(*machine, u"Leaky");
            machine->io().UnloadDriver(driver.object);
        },
        "BUGCHECK NET_BUFFER_POOL_LEFT: driver Leaky was unloaded.*\n    pool 'Test'");
}

} // namespace
} // namespace sim::test
