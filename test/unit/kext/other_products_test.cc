#include "support/driver_test.h"

#include "ndis/net_buffers.h"
#include "nt/scheduler.h"

#include <gmock/gmock.h>

#include <memory>
#include <utility>

namespace kext_test
{
namespace
{

using namespace std::chrono_literals;

// Another product's driver. It injects a copy of every packet that it did not inject itself.
class OtherInjector : public sim::wfp::InjectionTarget
{
  public:
    OtherInjector(sim::Machine &machine, Network &network) : machine_(machine), network_(network)
    {
        pool_ = machine_.net_buffers().CreatePool(sim::ndis::PoolOwner::kDriver, 'rhtO', 0, true);
        EXPECT_EQ(FwpsInjectionHandleCreate0(AF_INET, FWPS_INJECTION_TYPE_NETWORK, &handle_), STATUS_SUCCESS);
        machine_.wfp().SetInjectionTarget(this);
    }

    ~OtherInjector() override
    {
        machine_.Run();
        machine_.wfp().SetInjectionTarget(&network_);
        EXPECT_EQ(FwpsInjectionHandleDestroy0(handle_), STATUS_SUCCESS);
        machine_.net_buffers().DestroyPool(pool_);
    }

    void Inject(const ByteVector &bytes)
    {
        auto copy = std::make_unique<Copy>(bytes);
        NET_BUFFER_LIST *list = nullptr;

        EXPECT_EQ(FwpsAllocateNetBufferAndNetBufferList0(pool_, 0, 0, copy->mdl, 0, bytes.size(), &list),
                  STATUS_SUCCESS);
        EXPECT_EQ(
            FwpsInjectNetworkSendAsync0(handle_, nullptr, 0, Network::kCompartment, list, Completed, copy.release()),
            STATUS_SUCCESS);
    }

    NTSTATUS Deliver(const sim::wfp::Injection &injection) override
    {
        const bool own =
            FwpsQueryPacketInjectionState0(handle_, injection.net_buffer_list, nullptr) == FWPS_PACKET_INJECTED_BY_SELF;

        rounds_++;
        if (!network_.OutboundChain(false, injection.net_buffer_list).permitted())
        {
            return STATUS_SUCCESS;
        }
        if (own)
        {
            sent_++;
        }
        else
        {
            waiting_.push_back(BytesOf(injection.net_buffer_list->FirstNetBuffer));
        }
        return STATUS_SUCCESS;
    }

    // Runs until no packet is in flight.
    void Settle()
    {
        machine_.Run();
        while (!waiting_.empty() && rounds_ < 1000)
        {
            for (const ByteVector &bytes : std::exchange(waiting_, {}))
            {
                Inject(bytes);
            }
            machine_.Run();
        }
    }

    size_t sent() const { return sent_; }
    size_t rounds() const { return rounds_; }

  private:
    struct Copy
    {
        explicit Copy(ByteVector packet)
            : bytes(std::move(packet)),
              mdl(IoAllocateMdl(bytes.data(), static_cast<ULONG>(bytes.size()), FALSE, FALSE, nullptr))
        {
            MmBuildMdlForNonPagedPool(mdl);
        }
        ~Copy() { IoFreeMdl(mdl); }

        ByteVector bytes;
        PMDL mdl;
    };

    static void NTAPI Completed(void *context, NET_BUFFER_LIST *list, BOOLEAN)
    {
        FwpsFreeNetBufferList0(list);
        delete static_cast<Copy *>(context);
    }

    sim::Machine &machine_;
    Network &network_;
    HANDLE handle_ = nullptr;
    NDIS_HANDLE pool_ = nullptr;
    size_t rounds_ = 0;
    size_t sent_ = 0;
    std::vector<ByteVector> waiting_;
};

using OtherProductsTest = DriverTest;

TEST_F(OtherProductsTest, APacketThatAnotherProductInjectsIsReportedLikeAnyPacket)
{
    OtherInjector other(machine_, network_);

    other.Inject(MakePacket(UdpV4()));
    other.Settle();
    EXPECT_EQ(client_.ReadQuestion().payload, MakePacket(UdpV4()));
    EXPECT_EQ(other.sent(), 0u);
}

TEST_F(OtherProductsTest, PermittedPacketsThatAnotherProductReinjectsAreNotInjectedAgain)
{
    Decide(UdpV4(), VerdictPermanentAccept);
    OtherInjector other(machine_, network_);

    other.Inject(MakePacket(UdpV4()));
    other.Settle();
    EXPECT_EQ(other.rounds(), 1u);
    EXPECT_EQ(other.sent(), 1u);
    EXPECT_TRUE(client_.ReadQuestions().empty());
}

// Each driver holds the packets that the other injects, and injects a copy.
TEST_F(OtherProductsTest, TwoDriversThatReinjectEachOthersPacketsTerminate)
{
    OtherInjector other(machine_, network_);
    size_t asked = 0;

    for (size_t packet = 1; packet <= 3; packet++)
    {
        EXPECT_TRUE(network_.Outbound(MakePacket(UdpV4())).absorbed());
        for (std::vector<Question> questions = client_.ReadQuestions(); !questions.empty() && asked < 100;
             questions = client_.ReadQuestions())
        {
            asked += questions.size();
            client_.Verdict(questions.at(0).id, VerdictAccept);
            other.Settle();
        }
        EXPECT_EQ(other.sent(), packet);
    }
    EXPECT_EQ(asked, 4u) << "one report per packet, and one more when the driver first sees the other product";
}

TEST_F(OtherProductsTest, AReturningPacketPassesOnceAndOnlySoon)
{
    OtherInjector other(machine_, network_);
    const auto accept_all = [&]
    {
        for (const Question &question : client_.ReadQuestions())
        {
            client_.Verdict(question.id, VerdictAccept);
        }
    };

    other.Inject(MakePacket(UdpV4()));
    machine_.Run();
    accept_all();
    other.Settle();
    EXPECT_EQ(other.sent(), 1u);

    other.Inject(MakePacket(UdpV4()));
    machine_.Run();
    EXPECT_EQ(client_.ReadQuestions().size(), 1u) << "the same bytes again are another packet";

    Flow another = UdpV4();
    another.local.port++;
    other.Inject(MakePacket(another));
    machine_.Run();
    accept_all();
    Advance(11s);
    other.Settle();
    EXPECT_EQ(client_.ReadQuestions().size(), 1u) << "too late";
}

// ---- Transactions

TEST_F(OtherProductsTest, AReauthorizationWithinOurOwnTransactionIsNoError)
{
    // This transaction could be neither committed nor aborted.
    ASSERT_EQ(FwpmTransactionBegin0(context()->Engine.Session, 0), STATUS_SUCCESS);
    client_.Command(CommandClearCache);
    EXPECT_EQ(network_.TakeReauthorized().size(), 4u);
    EXPECT_TRUE(client_.GetLogs().empty());
}

// Another product changes its filters in a transaction.
class OtherTransaction
{
  public:
    OtherTransaction()
    {
        FWPM_SESSION0 session{};

        EXPECT_EQ(FwpmEngineOpen0(nullptr, RPC_C_AUTHN_WINNT, nullptr, &session, &engine_), STATUS_SUCCESS);
        EXPECT_EQ(FwpmTransactionBegin0(engine_, 0), STATUS_SUCCESS);
    }
    ~OtherTransaction() { EXPECT_EQ(FwpmEngineClose0(engine_), STATUS_SUCCESS); }

    void Commit() { EXPECT_EQ(FwpmTransactionCommit0(engine_), STATUS_SUCCESS); }

  private:
    HANDLE engine_ = nullptr;
};

TEST_F(OtherProductsTest, AReauthorizationWaitsForAnotherProductsTransaction)
{
    machine_.wfp().BeginForeignTransaction();
    client_.Command(CommandClearCache);
    Advance(1100ms);
    EXPECT_TRUE(network_.TakeReauthorized().empty());
    EXPECT_THAT(client_.GetLogs(), testing::ElementsAre(testing::HasSubstr("is busy")));
    EXPECT_EQ(client_.GetStatistics().EngineState, EngineBusy);
    machine_.wfp().EndForeignTransaction();
    EXPECT_EQ(network_.TakeReauthorized().size(), 4u);
    EXPECT_EQ(client_.GetStatistics().EngineState, EngineFiltering);
}

TEST_F(OtherProductsTest, ADueReauthorizationDoesNotOutliveTheEngineSession)
{
    {
        OtherTransaction other;

        client_.Close();
        other.Commit();
    }
    EngineReauthorize(&context()->Engine);
    Unload();
}

// The driver's sublayer has the greatest weight, 0xFFFF.
TEST_F(OtherProductsTest, TheClientIsAskedBeforeAnyProductOfLowerWeight)
{
    const uint64_t filter =
        machine_.wfp().AddForeignFilter(FWPS_LAYER_ALE_AUTH_CONNECT_V4, 0xFFFE, sim::wfp::ForeignAction::kHardBlock);

    EXPECT_TRUE(network_.Connect(Flow{}).pended());
    client_.Verdict(client_.ReadQuestion().id, VerdictPermanentAccept);
    machine_.wfp().RemoveForeignFilter(filter);
}

} // namespace
} // namespace kext_test
