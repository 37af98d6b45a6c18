#include "wire.h"

static UINT32 WireAddressLength(const CONNECTION_KEY *key)
{
    return key->IpVersion == 4 ? 4 : 16;
}

// Protocols without ports have zeros there.
static UINT8 *WirePutPort(UINT8 *wire, const CONNECTION_KEY *key, UINT16 port)
{
    UINT16 wirePort = ConnectionKeyHasPorts(key) ? port : 0;

    return WirePut(wire, &wirePort, sizeof(wirePort));
}

_Use_decl_annotations_
UINT8 *WirePutConnection(UINT8 *wire, const CONNECTION_KEY *key, UINT64 processId, UINT8 direction)
{
    wire = WirePut(wire, &processId, sizeof(processId));
    wire = WirePut(wire, &direction, sizeof(direction));
    wire = WirePut(wire, &key->Protocol, sizeof(key->Protocol));
    wire = WirePut(wire, key->LocalAddress, WireAddressLength(key));
    wire = WirePut(wire, key->RemoteAddress, WireAddressLength(key));
    wire = WirePutPort(wire, key, key->LocalPort);
    return WirePutPort(wire, key, key->RemotePort);
}

_Use_decl_annotations_
UINT8 *WirePutEndpoints(UINT8 *wire, const CONNECTION_KEY *key)
{
    wire = WirePut(wire, key->LocalAddress, WireAddressLength(key));
    wire = WirePut(wire, &key->LocalPort, sizeof(key->LocalPort));
    wire = WirePut(wire, key->RemoteAddress, WireAddressLength(key));
    return WirePut(wire, &key->RemotePort, sizeof(key->RemotePort));
}

_Use_decl_annotations_
const UINT8 *WireGetEndpoints(const UINT8 *wire, CONNECTION_KEY *key)
{
    wire = WireGet(wire, key->LocalAddress, WireAddressLength(key));
    wire = WireGet(wire, &key->LocalPort, sizeof(key->LocalPort));
    wire = WireGet(wire, key->RemoteAddress, WireAddressLength(key));
    return WireGet(wire, &key->RemotePort, sizeof(key->RemotePort));
}
