#include "support/keeping_device.h"

#include "protocol.h"

#include "support/wire_records.h"

#include <condition_variable>
#include <mutex>
#include <utility>

namespace netverdict_test
{

namespace
{

using netverdict::Device;
using netverdict::IoResult;

// A read within the driver beneath.
struct KeptRead
{
    std::mutex mutex;
    std::condition_variable ended;
    bool has_ended = false;
    int32_t status = 0;
    uint64_t information = 0;

    static void End(void *self, int32_t status, uint64_t information)
    {
        auto &read = *static_cast<KeptRead *>(self);
        const std::lock_guard<std::mutex> lock(read.mutex);

        read.status = status;
        read.information = information;
        read.has_ended = true;
        read.ended.notify_all();
    }
};

class KeepingDevice final : public Device
{
  public:
    KeepingDevice(std::shared_ptr<Device> device, ReadsEnd ends) : device_(std::move(device)), ends_(ends) {}

    void Read(void *buffer, uint32_t length, Completion completion, void *context) override
    {
        KeptRead read;

        device_->Read(buffer, length, &KeptRead::End, &read);
        {
            std::unique_lock<std::mutex> lock(read.mutex);

            read.ended.wait(lock, [&read] { return read.has_ended; });
        }
        completion(context, read.status, read.information);
    }

    IoResult Write(const void *bytes, uint32_t length) override
    {
        const bool is_shutdown = length != 0 && *static_cast<const uint8_t *>(bytes) == CommandShutdown;

        return is_shutdown && ends_ == ReadsEnd::kByNothing ? IoResult{0, length} : device_->Write(bytes, length);
    }

    IoResult Control(uint32_t code, const void *input, uint32_t input_length, void *output,
                     uint32_t output_length) override
    {
        if (code != IOCTL_NETVERDICT_VERSION && code != IOCTL_NETVERDICT_SHUTDOWN_REQUEST)
        {
            return {STATUS_INVALID_DEVICE_REQUEST, 0};
        }
        return device_->Control(code, input, input_length, output, output_length);
    }

    void CancelReads() override
    {
        if (ends_ == ReadsEnd::kByCancel)
        {
            device_->CancelReads();
        }
    }

  private:
    const std::shared_ptr<Device> device_;
    const ReadsEnd ends_;
};

} // namespace

std::shared_ptr<Device> KeepReads(std::shared_ptr<Device> device, ReadsEnd ends)
{
    return std::make_shared<KeepingDevice>(std::move(device), ends);
}

} // namespace netverdict_test
