/*
 * Layout assertions: a structure that the operating system fills in or reads has one layout, and a declaration of it
 * that differs must not compile.
 */
#pragma once

#include <stddef.h>

#ifdef __cplusplus
#define ABI_C_BEGIN                                                                                                    \
    extern "C"                                                                                                         \
    {
#define ABI_C_END }
#else
#define ABI_C_BEGIN
#define ABI_C_END
#endif

#if defined(__cplusplus)
#define ABI_ASSERT(condition, text) static_assert(condition, text)
#else
#define ABI_ASSERT(condition, text) _Static_assert(condition, text)
#endif

#define ABI_ASSERT_SIZE(type, size) ABI_ASSERT(sizeof(type) == (size), "size of " #type)
#define ABI_ASSERT_OFFSET(type, field, offset)                                                                         \
    ABI_ASSERT(offsetof(type, field) == (offset), "offset of " #type "." #field)
