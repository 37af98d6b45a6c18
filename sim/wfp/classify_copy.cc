#include "classify_copy.h"

#include "nt/bugcheck.h"
#include "nt/sanitizer.h"

#include <array>
#include <cstring>
#include <vector>

namespace sim::wfp
{
namespace
{

constexpr uint8_t kPoison = 0xDD;
constexpr size_t kBlockBytes = 16 * 1024;
constexpr size_t kAlignment = 16;
constexpr size_t kBuffers = 16; // classifies until a buffer is reused; also the deepest nesting

size_t Aligned(size_t length)
{
    return (length + kAlignment - 1) & ~(kAlignment - 1);
}

} // namespace

// One block that is reused, and more blocks for data that does not fit into it.
class ClassifyCopy::Buffer
{
  public:
    Buffer() = default;
    ~Buffer() { nt::AllowAccess(block_.data(), block_.size()); }

    Buffer(const Buffer &) = delete;
    Buffer &operator=(const Buffer &) = delete;

    bool in_use() const { return in_use_; }

    void Open()
    {
        in_use_ = true;
        if (block_.empty())
        {
            block_.resize(kBlockBytes);
        }
        nt::AllowAccess(block_.data(), block_.size());
        CheckPoison();
        used_ = 0;
    }

    void *Take(size_t length)
    {
        if (used_ + Aligned(length) > block_.size())
        {
            further_.emplace_back(length);
            return further_.back().data();
        }
        void *taken = block_.data() + used_;
        used_ += Aligned(length);
        return taken;
    }

    void Close()
    {
        std::memset(block_.data(), kPoison, used_);
        nt::ForbidAccess(block_.data(), block_.size());
        further_.clear();
        in_use_ = false;
    }

  private:
    void CheckPoison() const
    {
        if (used_ != 0 && (block_[0] != kPoison || std::memcmp(block_.data(), block_.data() + 1, used_ - 1) != 0))
        {
            Bugcheck("WFP_CLASSIFY_DATA_WRITTEN", "values or metadata of a classify were written after it returned");
        }
    }

    std::vector<uint8_t> block_;
    std::vector<std::vector<uint8_t>> further_;
    size_t used_ = 0;
    bool in_use_ = false;
};

struct ClassifyCopy::Ring
{
    Buffer &Next()
    {
        for (size_t tries = 0; tries < kBuffers; ++tries)
        {
            Buffer &buffer = buffers[next++ % kBuffers];

            if (!buffer.in_use())
            {
                return buffer;
            }
        }
        Bugcheck("WFP_CLASSIFY_NESTED", "more than %zu classifies are nested on one thread", kBuffers);
    }

    std::array<Buffer, kBuffers> buffers;
    size_t next = 0;
};

ClassifyCopy::Ring &ClassifyCopy::RingOfThread()
{
    thread_local Ring ring;
    return ring;
}

ClassifyCopy::ClassifyCopy(const FWPS_INCOMING_VALUES0 &values, const FWPS_INCOMING_METADATA_VALUES0 &metadata)
    : buffer_(RingOfThread().Next())
{
    buffer_.Open();

    values_ = static_cast<FWPS_INCOMING_VALUES0 *>(Add(&values, sizeof(values)));
    values_->incomingValue = static_cast<FWPS_INCOMING_VALUE0 *>(
        Add(values.incomingValue, values.valueCount * sizeof(FWPS_INCOMING_VALUE0)));
    for (uint32_t i = 0; i < values.valueCount; ++i)
    {
        CopyPointee(&values_->incomingValue[i].value);
    }

    metadata_ = static_cast<FWPS_INCOMING_METADATA_VALUES0 *>(Add(&metadata, sizeof(metadata)));
    if (FWPS_IS_METADATA_FIELD_PRESENT(&metadata, FWPS_METADATA_FIELD_PROCESS_PATH) && metadata.processPath != nullptr)
    {
        metadata_->processPath = static_cast<FWP_BYTE_BLOB *>(Add(metadata.processPath, sizeof(FWP_BYTE_BLOB)));
        metadata_->processPath->data =
            static_cast<UINT8 *>(Add(metadata.processPath->data, metadata.processPath->size));
    }
    if (FWPS_IS_METADATA_FIELD_PRESENT(&metadata, FWPS_METADATA_FIELD_TRANSPORT_CONTROL_DATA))
    {
        metadata_->controlData = static_cast<WSACMSGHDR *>(Add(metadata.controlData, metadata.controlDataLength));
    }
    if (FWPS_IS_METADATA_FIELD_PRESENT(&metadata, FWPS_METADATA_FIELD_TRANSPORT_HEADER_INCLUDE_HEADER))
    {
        metadata_->headerIncludeHeader = Add(metadata.headerIncludeHeader, metadata.headerIncludeHeaderLength);
    }
}

ClassifyCopy::~ClassifyCopy()
{
    buffer_.Close();
}

void *ClassifyCopy::Add(const void *bytes, size_t length)
{
    if (bytes == nullptr || length == 0)
    {
        return nullptr;
    }
    void *copy = buffer_.Take(length);
    std::memcpy(copy, bytes, length);
    return copy;
}

void ClassifyCopy::CopyPointee(FWP_VALUE0 *value)
{
    switch (value->type)
    {
    case FWP_UINT64:
        value->uint64 = static_cast<UINT64 *>(Add(value->uint64, sizeof(UINT64)));
        break;
    case FWP_BYTE_ARRAY16_TYPE:
        value->byteArray16 = static_cast<FWP_BYTE_ARRAY16 *>(Add(value->byteArray16, sizeof(FWP_BYTE_ARRAY16)));
        break;
    case FWP_BYTE_BLOB_TYPE:
        if (value->byteBlob != nullptr)
        {
            value->byteBlob = static_cast<FWP_BYTE_BLOB *>(Add(value->byteBlob, sizeof(FWP_BYTE_BLOB)));
            value->byteBlob->data = static_cast<UINT8 *>(Add(value->byteBlob->data, value->byteBlob->size));
        }
        break;
    default:
        break;
    }
}

} // namespace sim::wfp
