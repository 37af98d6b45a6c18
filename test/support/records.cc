#include "support/records.h"

#include "support/record_splitter.h"

namespace kext_test
{

Record Record::Of(const INFO_HEADER_WIRE &header, const uint8_t *record)
{
    const uint8_t *body = record + sizeof(header);

    return {header.Type, ByteVector(body, body + header.Length)};
}

std::vector<Record> AllRecords(const ByteVector &stream)
{
    RecordSplitter splitter;
    std::vector<Record> records;

    splitter.Add(stream.data(), stream.size(), [&](const INFO_HEADER_WIRE &header, const uint8_t *record)
                 { records.push_back(Record::Of(header, record)); });
    EXPECT_TRUE(splitter.empty()) << "the stream ends within a record";
    return records;
}

bool IsQuestion(const Record &record)
{
    return record.type == InfoConnectionV4 || record.type == InfoConnectionV6;
}

Question ParseQuestion(const Record &record)
{
    const size_t length = record.type == InfoConnectionV6 ? 16 : 4;
    const size_t ports = 18 + 2 * length;
    Question question;

    question.id = record.At<uint64_t>(0);
    question.process_id = record.At<uint64_t>(8);
    question.direction = record.At<uint8_t>(16);
    question.protocol = record.At<uint8_t>(17);
    question.local_address.assign(record.body.begin() + 18, record.body.begin() + 18 + length);
    question.remote_address.assign(record.body.begin() + 18 + length, record.body.begin() + ports);
    question.local_port = record.At<uint16_t>(ports);
    question.remote_port = record.At<uint16_t>(ports + 2);
    question.payload_layer = record.At<uint8_t>(ports + 4);
    EXPECT_EQ(record.At<uint32_t>(ports + 5), record.body.size() - ports - 9);
    question.payload.assign(record.body.begin() + ports + 9, record.body.end());
    return question;
}

} // namespace kext_test
