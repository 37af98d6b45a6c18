#include "context.h"

#include "siphash.h"

// Every classify reads the context of its cookie here. The nonce is chosen once, by the first context.
static struct
{
    volatile LONG64 Nonce;
    volatile LONG64 Contexts[PLATFORM_MAX_CONTEXTS]; // addresses; 0: free
} ContextTable;

// The row of a layer is the lowest byte of a cookie, and the index of the context is above it.
#define CONTEXT_ROW_BITS 8
#define CONTEXT_ROW_MASK ((1u << CONTEXT_ROW_BITS) - 1)

static UINT64 ContextNonce(VOID)
{
    SIPHASH_KEY random;

    if (ReadNoFence64(&ContextTable.Nonce) == 0)
    {
        SipHashKeyInitialize(&random);
        // A nonce of 0 would let any filter with a small context through, and means that none is chosen yet.
        InterlockedCompareExchange64(&ContextTable.Nonce, (LONG64)(random.Words[0] | 1), 0);
    }
    return (UINT64)ReadNoFence64(&ContextTable.Nonce);
}

_Use_decl_annotations_
NTSTATUS ContextRegister(DRIVER_CONTEXT *context)
{
    UINT32 i;

    for (i = 0; i < PLATFORM_MAX_CONTEXTS; i++)
    {
        if (InterlockedCompareExchange64(&ContextTable.Contexts[i], (LONG64)(ULONG_PTR)context, 0) == 0)
        {
            context->Cookie = ContextNonce() ^ ((UINT64)i << CONTEXT_ROW_BITS);
            return STATUS_SUCCESS;
        }
    }
    return STATUS_INSUFFICIENT_RESOURCES;
}

_Use_decl_annotations_
VOID ContextUnregister(DRIVER_CONTEXT *context)
{
    UINT64 index = (context->Cookie ^ ContextNonce()) >> CONTEXT_ROW_BITS;

    InterlockedExchange64(&ContextTable.Contexts[index], 0);
}

_Use_decl_annotations_
DRIVER_CONTEXT *ContextOfCookie(UINT64 cookie, UINT32 *row)
{
    UINT64 value = cookie ^ (UINT64)ReadNoFence64(&ContextTable.Nonce);
    UINT64 index = value >> CONTEXT_ROW_BITS;

    *row = (UINT32)value & CONTEXT_ROW_MASK;
    return index < PLATFORM_MAX_CONTEXTS && *row < LAYER_COUNT
               ? (DRIVER_CONTEXT *)(ULONG_PTR)ReadAcquire64(&ContextTable.Contexts[index])
               : NULL;
}
