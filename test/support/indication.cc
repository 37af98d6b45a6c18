#include "support/indication.h"

#include <cstring>

namespace kext_test
{

Indication::Indication(uint16_t layer, uint32_t count)
{
    values_.layerId = layer;
    values_.valueCount = count;
    values_.incomingValue = fields_.data();
}

void Indication::SetUint8(uint32_t field, uint8_t value)
{
    fields_[field].value.type = FWP_UINT8;
    fields_[field].value.uint8 = value;
}

void Indication::SetUint16(uint32_t field, uint16_t value)
{
    fields_[field].value.type = FWP_UINT16;
    fields_[field].value.uint16 = value;
}

void Indication::SetUint32(uint32_t field, uint32_t value)
{
    fields_[field].value.type = FWP_UINT32;
    fields_[field].value.uint32 = value;
}

void Indication::SetAddress(uint32_t field, const Endpoint &endpoint)
{
    if (endpoint.family == 6)
    {
        FWP_BYTE_ARRAY16 &bytes = addresses_[address_count_++];

        std::memcpy(bytes.byteArray16, endpoint.address.data(), 16);
        fields_[field].value.type = FWP_BYTE_ARRAY16_TYPE;
        fields_[field].value.byteArray16 = &bytes;
        return;
    }
    SetUint32(field, static_cast<uint32_t>(endpoint.address[0]) << 24 |
                         static_cast<uint32_t>(endpoint.address[1]) << 16 |
                         static_cast<uint32_t>(endpoint.address[2]) << 8 | endpoint.address[3]);
}

void Indication::SetFlow(const FlowFields &fields, const Flow &flow)
{
    SetAddress(fields.local_address, flow.local);
    SetUint16(fields.local_port, flow.local.port);
    SetAddress(fields.remote_address, flow.remote);
    SetUint16(fields.remote_port, flow.remote.port);
}

void Indication::SetCompartment(uint32_t compartment)
{
    metadata_.compartmentId = compartment;
    metadata_.currentMetadataValues |= FWPS_METADATA_FIELD_COMPARTMENT_ID;
}

void Indication::SetProcess(uint64_t process_id, const std::u16string *path)
{
    metadata_.processId = process_id;
    metadata_.currentMetadataValues |= FWPS_METADATA_FIELD_PROCESS_ID;
    if (path != nullptr && !path->empty())
    {
        path_.data = reinterpret_cast<UINT8 *>(const_cast<char16_t *>(path->data()));
        path_.size = static_cast<UINT32>(path->size() * sizeof(char16_t));
        metadata_.processPath = &path_;
        metadata_.currentMetadataValues |= FWPS_METADATA_FIELD_PROCESS_PATH;
    }
}

} // namespace kext_test
