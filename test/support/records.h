// The records that the driver sends to its client.
#pragma once

#include "protocol.h"

#include "support/bytes.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

namespace kext_test
{

// One record, without its header.
struct Record
{
    uint8_t type = 0;
    ByteVector body;

    static Record Of(const INFO_HEADER_WIRE &header, const uint8_t *record);

    template <typename T> T At(size_t offset) const
    {
        T value{};

        EXPECT_LE(offset + sizeof(T), body.size()) << "record of type " << int{type};
        if (offset + sizeof(T) <= body.size())
        {
            std::memcpy(&value, body.data() + offset, sizeof(T));
        }
        return value;
    }

    std::string Text(size_t offset) const { return std::string(body.begin() + offset, body.end()); }
};

// Fails the test where the stream ends within a record.
std::vector<Record> AllRecords(const ByteVector &stream);

// A ConnectionV4 or ConnectionV6 record: the driver asks for a verdict.
struct Question
{
    uint64_t id = 0;
    uint64_t process_id = 0;
    uint8_t direction = 0;
    uint8_t protocol = 0;
    ByteVector local_address;
    ByteVector remote_address;
    uint16_t local_port = 0;
    uint16_t remote_port = 0;
    uint8_t payload_layer = 0;
    ByteVector payload;
};

bool IsQuestion(const Record &record);
Question ParseQuestion(const Record &record);

} // namespace kext_test
