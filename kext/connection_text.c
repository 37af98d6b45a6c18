#include "connection_text.h"

#include "protocol.h"

#define CONNECTION_TEXT_GROUPS 8u // 16-bit groups of an IPv6 address

// Each function below writes at `end` and returns the new end.

static CHAR *ConnectionTextPutString(CHAR *end, const CHAR *string)
{
    while (*string != '\0')
    {
        *end++ = *string++;
    }
    return end;
}

// Writes without leading zeros. `base` is 10 or 16.
static CHAR *ConnectionTextPutNumber(CHAR *end, UINT32 number, UINT32 base)
{
    CHAR digits[10];
    UINT32 count = 0;

    do
    {
        digits[count++] = "0123456789abcdef"[number % base];
        number /= base;
    } while (number != 0);
    while (count != 0)
    {
        *end++ = digits[--count];
    }
    return end;
}

static CHAR *ConnectionTextPutAddressV4(CHAR *end, const UINT8 *address)
{
    UINT32 i;

    for (i = 0; i < 4; i++)
    {
        if (i != 0)
        {
            *end++ = '.';
        }
        end = ConnectionTextPutNumber(end, address[i], 10);
    }
    return end;
}

static UINT32 ConnectionTextGroup(const UINT8 *address, UINT32 index)
{
    return (UINT32)address[2 * index] << 8 | address[2 * index + 1];
}

// Finds the first longest run of zero groups. A single zero group is no run (RFC 5952, section 4.2).
static UINT32 ConnectionTextFindZeros(const UINT8 *address, UINT32 *first)
{
    UINT32 longest = 1;
    UINT32 run = 0;
    UINT32 i;

    *first = CONNECTION_TEXT_GROUPS;
    for (i = 0; i < CONNECTION_TEXT_GROUPS; i++)
    {
        run = ConnectionTextGroup(address, i) == 0 ? run + 1 : 0;
        if (run > longest)
        {
            longest = run;
            *first = i + 1 - run;
        }
    }
    return longest;
}

static CHAR *ConnectionTextPutAddressV6(CHAR *end, const UINT8 *address)
{
    UINT32 first;
    UINT32 zeros = ConnectionTextFindZeros(address, &first);
    UINT32 i = 0;

    while (i < CONNECTION_TEXT_GROUPS)
    {
        if (i == first)
        {
            end = ConnectionTextPutString(end, "::");
            i += zeros;
            continue;
        }
        if (i != 0 && i != first + zeros)
        {
            *end++ = ':';
        }
        end = ConnectionTextPutNumber(end, ConnectionTextGroup(address, i), 16);
        i++;
    }
    return end;
}

static CHAR *ConnectionTextPutEndpoint(CHAR *end, const CONNECTION_KEY *key, const UINT8 *address, UINT16 port)
{
    BOOLEAN ports = ConnectionKeyHasPorts(key) && (key->LocalPort != 0 || key->RemotePort != 0);

    if (key->IpVersion == 4)
    {
        end = ConnectionTextPutAddressV4(end, address);
    }
    else
    {
        end = ConnectionTextPutString(end, ports ? "[" : "");
        end = ConnectionTextPutAddressV6(end, address);
        end = ConnectionTextPutString(end, ports ? "]" : "");
    }
    if (ports)
    {
        *end++ = ':';
        end = ConnectionTextPutNumber(end, port, 10);
    }
    return end;
}

static CHAR *ConnectionTextPutProtocol(CHAR *end, UINT8 protocol)
{
    switch (protocol)
    {
    case PROTOCOL_ICMP:
        return ConnectionTextPutString(end, "ICMP");
    case PROTOCOL_IGMP:
        return ConnectionTextPutString(end, "IGMP");
    case PROTOCOL_TCP:
        return ConnectionTextPutString(end, "TCP");
    case PROTOCOL_UDP:
        return ConnectionTextPutString(end, "UDP");
    case PROTOCOL_ICMPV6:
        return ConnectionTextPutString(end, "ICMPv6");
    default:
        return ConnectionTextPutNumber(ConnectionTextPutString(end, "protocol "), protocol, 10);
    }
}

static CHAR *ConnectionTextPutConnection(CHAR *end, const CONNECTION_KEY *key, BOOLEAN inbound)
{
    end = ConnectionTextPutProtocol(ConnectionTextPutString(end, " "), key->Protocol);
    *end++ = ' ';
    end = ConnectionTextPutEndpoint(end, key, inbound ? key->RemoteAddress : key->LocalAddress,
                                    inbound ? key->RemotePort : key->LocalPort);
    end = ConnectionTextPutString(end, " -> ");
    return ConnectionTextPutEndpoint(end, key, inbound ? key->LocalAddress : key->RemoteAddress,
                                     inbound ? key->LocalPort : key->RemotePort);
}

_Use_decl_annotations_
const CHAR *ConnectionTextWrite(CONNECTION_TEXT *text, const CONNECTION_KEY *key, UINT8 direction)
{
    BOOLEAN inbound = direction == DirectionInbound;
    CHAR *end = ConnectionTextPutString(text->Characters, inbound ? "inbound" : "outbound");

    if (key != NULL)
    {
        end = ConnectionTextPutConnection(end, key, inbound);
    }
    *end = '\0';
    return text->Characters;
}
