// The arguments of one classify at a layer of the filter engine.
#pragma once

#include "support/flows.h"

#include "machine.h"
#include "wfp/engine.h"

#include <array>
#include <string>

namespace kext_test
{

// Where a layer has the fields of a connection.
struct FlowFields
{
    uint32_t local_address;
    uint32_t local_port;
    uint32_t remote_address;
    uint32_t remote_port;
};

class Indication
{
  public:
    // `count`: fields of the layer.
    Indication(uint16_t layer, uint32_t count);

    Indication(const Indication &) = delete;
    Indication &operator=(const Indication &) = delete;

    void SetUint8(uint32_t field, uint8_t value);
    void SetUint16(uint32_t field, uint16_t value);
    void SetUint32(uint32_t field, uint32_t value);
    void SetAddress(uint32_t field, const Endpoint &endpoint);
    void SetFlow(const FlowFields &fields, const Flow &flow);
    void SetCompartment(uint32_t compartment);

    // `path`: null or empty where the layer does not give one. It must outlive the classify.
    void SetProcess(uint64_t process_id, const std::u16string *path = nullptr);

    // The connection was established before any filter was added.
    void SetOlderThanFilters() { established_ = 0; }

    uint64_t established() const { return established_; }
    FWPS_INCOMING_VALUES0 &values() { return values_; }
    FWPS_INCOMING_METADATA_VALUES0 &metadata() { return metadata_; }

  private:
    std::array<FWPS_INCOMING_VALUE0, FWPS_FIELD_ALE_AUTH_CONNECT_V4_MAX> fields_{};
    FWPS_INCOMING_VALUES0 values_{};
    FWPS_INCOMING_METADATA_VALUES0 metadata_{};
    std::array<FWP_BYTE_ARRAY16, 2> addresses_{};
    size_t address_count_ = 0;
    FWP_BYTE_BLOB path_{};
    uint64_t established_ = UINT64_MAX;
};

} // namespace kext_test
