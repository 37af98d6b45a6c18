// Runs the driver's tests again and again; in each run another of the driver's calls fails that may fail.
// Every distinct call stack fails once, including stacks that only appear after a failure, until there is no new one.
// A test need not pass then, but nothing may crash, hang or leak.
// The checks of the simulated kernel and the invariants of test/support/observer.h must hold.
//
// Each run is a process that starts as a copy of this one, so the call stacks are the same in all of them.
#include "nt/call_stack.h"
#include "nt/fault_injection.h"
#include "nt/thread_state.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_set>
#include <vector>

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

namespace
{

// Many times the duration of a test; a run that takes longer is stuck.
constexpr unsigned kSecondsOfARun = 300;

// Where threads race, a stack does not appear in every run.
constexpr size_t kMostWaysToAStack = 40;
constexpr size_t kMostTries = 40;
constexpr size_t kMostFailuresOfARun = 4;

// One run: a test, and the stacks whose first calls fail in it. All stacks but the last led to the last one.
struct Job
{
    std::string test;
    std::vector<uint64_t> stacks;
};

// The results that a run writes for its parent.
struct Report
{
    static constexpr size_t kMostStacks = 1 << 16;

    std::atomic<bool> injected; // the last stack's call failed
    std::atomic<bool> ended;    // the test ran to its end
    std::atomic<size_t> count;
    uint64_t stacks[kMostStacks];
};

class Recorder : public sim::nt::FaultPlan
{
  public:
    Recorder(Report *report, const std::vector<uint64_t> &wanted) : report_(report), wanted_(wanted) {}

    bool Fails(const sim::nt::CallStack &stack) override
    {
        const uint64_t hash = stack.Hash();
        const std::lock_guard<std::mutex> lock(mutex_);

        if (!seen_.insert(hash).second)
        {
            return false;
        }
        if (report_->count < Report::kMostStacks)
        {
            report_->stacks[report_->count++] = hash;
        }
        if (std::find(wanted_.begin(), wanted_.end(), hash) == wanted_.end())
        {
            return false;
        }
        std::printf("Failed: %s\n", stack.Describe().c_str());
        report_->injected = report_->injected || hash == wanted_.back();
        return true;
    }

  private:
    Report *report_;
    const std::vector<uint64_t> &wanted_;
    std::mutex mutex_;
    std::unordered_set<uint64_t> seen_; // guarded by mutex_
};

// Ends a test at its first failed expectation, because its next steps may depend on it.
class EndTestAtFailure : public testing::EmptyTestEventListener
{
  public:
    void OnTestPartResult(const testing::TestPartResult &result) override
    {
        if (result.failed() && std::this_thread::get_id() == main_ && sim::nt::thread_state.driver_caller == nullptr)
        {
            throw testing::AssertionException(result);
        }
    }

  private:
    const std::thread::id main_ = std::this_thread::get_id();
};

[[noreturn]] void RunTest(const Job &job, Report *report, int output)
{
    dup2(output, STDOUT_FILENO);
    dup2(output, STDERR_FILENO);
    alarm(kSecondsOfARun);

    Recorder recorder(report, job.stacks);

    sim::nt::FaultInjection::SetPlan(&recorder);
    if (!job.stacks.empty())
    {
        testing::UnitTest::GetInstance()->listeners().Append(new EndTestAtFailure);
    }
    GTEST_FLAG_SET(filter, job.test);

    const int result = RUN_ALL_TESTS();

    report->ended = true;
    std::fflush(nullptr);
    _exit(job.stacks.empty() ? result : 0);
}

struct Run
{
    Job job;
    Report *report = nullptr;
    int output = -1;
};

// A call that may fail, identified by its stack.
struct Place
{
    std::vector<Job> ways; // runs that led to it, and itself
    size_t tries = 0;
    bool running = false;
    bool injected = false;
};

class Search
{
  public:
    explicit Search(unsigned at_once) : at_once_(at_once) {}

    void Add(Job job) { waiting_.push_back(std::move(job)); }

    // Returns true if no problem was found.
    bool Go()
    {
        while (!waiting_.empty() || !running_.empty())
        {
            while (!waiting_.empty() && running_.size() < at_once_)
            {
                Start(std::move(waiting_.front()));
                waiting_.pop_front();
            }
            Finish();
        }
        size_t injected = 0;

        for (const auto &[stack, place] : places_)
        {
            injected += place.injected ? 1 : 0;
            if (!place.injected)
            {
                std::printf("%016" PRIx64 " was not met again%s%s\n", stack, place.ways.empty() ? "" : " in ",
                            place.ways.empty() ? "" : place.ways[0].test.c_str());
            }
        }
        std::printf("%zu tests, %zu distinct call stacks, %zu faults injected\n", tests_, places_.size(), injected);
        std::printf("%zu passed, %zu failed, %zu skipped\n", injected - std::min(failed_, injected), failed_,
                    places_.size() - injected);
        return failed_ == 0 && injected != 0;
    }

  private:
    void Start(Job job)
    {
        Run run;

        run.job = std::move(job);
        run.report = static_cast<Report *>(
            mmap(nullptr, sizeof(Report), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
        run.output = memfd_create("output", 0);
        if (run.report == MAP_FAILED || run.output < 0)
        {
            std::perror("no memory for another run");
            std::exit(2);
        }
        std::fflush(nullptr);

        const pid_t process = fork();

        if (process < 0)
        {
            std::perror("no process for another run");
            std::exit(2);
        }
        if (process == 0)
        {
            RunTest(run.job, run.report, run.output);
        }
        running_.emplace(process, std::move(run));
    }

    void Finish()
    {
        int status = 0;
        const pid_t process = wait(&status);
        const auto found = running_.find(process);

        if (found == running_.end())
        {
            return;
        }

        const Run run = std::move(found->second);

        running_.erase(found);
        Judge(run, status);
        munmap(run.report, sizeof(Report));
        close(run.output);
    }

    void Judge(const Run &run, int status)
    {
        tests_ += run.job.stacks.empty() ? 1 : 0;
        const std::string output = OutputOf(run);

        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0 || !run.report->ended ||
            output.find("INVARIANT ") != std::string::npos)
        {
            failed_++;
            PrintFailure(run, status, output);
        }
        for (size_t i = 0; i < run.report->count; i++)
        {
            Place &place = places_[run.report->stacks[i]];

            if (place.ways.size() < kMostWaysToAStack && run.job.stacks.size() < kMostFailuresOfARun)
            {
                place.ways.push_back(run.job);
                place.ways.back().stacks.push_back(run.report->stacks[i]);
            }
            Try(&place);
        }
        if (!run.job.stacks.empty())
        {
            Place &place = places_[run.job.stacks.back()];

            place.running = false;
            place.injected = place.injected || run.report->injected;
            Try(&place);
        }
    }

    // Tries the next way; after the last one it starts again.
    void Try(Place *place)
    {
        if (!place->injected && !place->running && !place->ways.empty() && place->tries < kMostTries)
        {
            place->running = true;
            Add(place->ways[place->tries++ % place->ways.size()]);
        }
    }

    static std::string OutputOf(const Run &run)
    {
        std::string output;
        char text[4096];
        ssize_t length;

        while ((length = pread(run.output, text, sizeof(text), static_cast<off_t>(output.size()))) > 0)
        {
            output.append(text, static_cast<size_t>(length));
        }
        return output;
    }

    static void PrintFailure(const Run &run, int status, const std::string &output)
    {
        std::printf("\n%s\n  repeat it: --test=%s",
                    WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM ? "STUCK" : "FAILED", run.job.test.c_str());
        for (const uint64_t stack : run.job.stacks)
        {
            std::printf(" --stack=%" PRIx64, stack);
        }
        std::printf("\n%s", output.c_str());
    }

    const unsigned at_once_;
    std::deque<Job> waiting_;
    std::map<pid_t, Run> running_;
    std::map<uint64_t, Place> places_; // by hash of the stack
    size_t tests_ = 0;
    size_t failed_ = 0;
};

// Death tests end a machine on purpose. The base session takes seconds, and other tests take each of its steps.
// A commit's order is observed by traffic of the test itself, whose own packets may not fail.
// What takes too long for every change makes the calls of shorter tests.
bool HasFaults(const testing::TestSuite &suite)
{
    return std::strstr(suite.name(), "DeathTest") == nullptr && std::strncmp(suite.name(), "LoadTest", 8) != 0 &&
           std::strcmp(suite.name(), "BaseSessionTest") != 0 &&
           std::strstr(suite.name(), "CommitOrderTest") == nullptr && std::strstr(suite.name(), "LongTest") == nullptr;
}

std::vector<std::string> SelectTests(const std::string &filter)
{
    const testing::UnitTest &all = *testing::UnitTest::GetInstance();
    std::vector<std::string> selected;

    for (int i = 0; i < all.total_test_suite_count(); i++)
    {
        const testing::TestSuite &suite = *all.GetTestSuite(i);

        for (int j = 0; HasFaults(suite) && j < suite.total_test_count(); j++)
        {
            const std::string name = std::string(suite.name()) + "." + suite.GetTestInfo(j)->name();

            if (filter.empty() || name.find(filter) != std::string::npos)
            {
                selected.push_back(name);
            }
        }
    }
    return selected;
}

std::vector<std::string> OptionsOf(int argc, char **argv, const std::string &name)
{
    std::vector<std::string> values;

    for (int i = 1; i < argc; i++)
    {
        const std::string argument = argv[i];

        if (argument.rfind(name, 0) == 0)
        {
            values.push_back(argument.substr(name.size()));
        }
    }
    return values;
}

} // namespace

int main(int argc, char **argv)
{
    testing::InitGoogleTest(&argc, argv);

    const std::vector<std::string> tests = OptionsOf(argc, argv, "--test=");
    const std::string test = tests.empty() ? "" : tests.front();
    Search search(std::max(1u, std::thread::hardware_concurrency()));
    Job job{test, {}};

    for (const std::string &stack : OptionsOf(argc, argv, "--stack="))
    {
        job.stacks.push_back(std::strtoull(stack.c_str(), nullptr, 16));
    }
    if (!job.stacks.empty())
    {
        search.Add(job);
    }
    else
    {
        for (const std::string &name : SelectTests(test))
        {
            search.Add({name, {}});
        }
    }
    return search.Go() ? 0 : 1;
}
