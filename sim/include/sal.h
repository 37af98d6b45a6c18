// The source annotations of Windows' headers. The host's compilers ignore them.
#pragma once

#define _In_
#define _In_opt_
#define _In_z_
#define _In_opt_z_
#define _In_reads_(count)
#define _In_reads_opt_(count)
#define _In_reads_bytes_(bytes)
#define _In_reads_bytes_opt_(bytes)
#define _In_reads_z_(count)
#define _Inout_
#define _Inout_opt_
#define _Inout_updates_(count)
#define _Inout_updates_bytes_(bytes)
#define _Inout_updates_opt_(count)
#define _Out_
#define _Out_opt_
#define _Out_writes_(count)
#define _Out_writes_all_(count)
#define _Out_writes_opt_(count)
#define _Out_writes_z_(count)
#define _Out_writes_to_(count, written)
#define _Out_writes_bytes_(bytes)
#define _Out_writes_bytes_all_(bytes)
#define _Out_writes_bytes_opt_(bytes)
#define _Out_writes_bytes_to_(bytes, written)
#define _Out_writes_bytes_to_opt_(bytes, written)
#define _Outptr_
#define _Outptr_opt_
#define _Outptr_result_maybenull_
#define _Outptr_result_bytebuffer_(bytes)
#define _COM_Outptr_
#define _Field_size_(count)
#define _Field_size_bytes_(bytes)
#define _Field_range_(low, high)
#define _Frees_ptr_
#define _Frees_ptr_opt_
#define _Pre_notnull_
#define _Pre_maybenull_
#define _Post_ptr_invalid_
#define _Post_invalid_
#define _Post_notnull_
#define _Post_maybenull_
#define _Post_writable_byte_size_(bytes)
#define _Notnull_
#define _Maybenull_
#define _Null_terminated_
#define _Printf_format_string_
#define _Reserved_
#define _Ret_maybenull_
#define _Ret_notnull_
#define _Ret_writes_bytes_(bytes)
#define _Ret_writes_bytes_maybenull_(bytes)
#define _Ret_range_(low, high)
#define _Success_(expression)
#define _On_failure_(annotations)
#define _When_(condition, annotations)
#define _At_(target, annotations)
#define _At_buffer_(target, iterator, bound, annotations)
#define _Always_(annotations)
#define _Check_return_
#define _Must_inspect_result_
#define _Use_decl_annotations_
#define _Analysis_assume_(expression)
#define _Analysis_noreturn_
#define _Interlocked_operand_
#define _Guarded_by_(lock)
#define _Requires_lock_held_(lock)
#define _Requires_lock_not_held_(lock)
#define _Requires_shared_lock_held_(lock)
#define _Requires_exclusive_lock_held_(lock)
#define _Acquires_lock_(lock)
#define _Acquires_shared_lock_(lock)
#define _Acquires_exclusive_lock_(lock)
#define _Releases_lock_(lock)
#define _Releases_shared_lock_(lock)
#define _Releases_exclusive_lock_(lock)
#define _Has_lock_level_(level)
#define _Has_lock_kind_(kind)
#define _Lock_level_order_(outer, inner)
#define _Create_lock_level_(level)

#define _IRQL_requires_(irql)
#define _IRQL_requires_min_(irql)
#define _IRQL_requires_max_(irql)
#define _IRQL_requires_same_
#define _IRQL_raises_(irql)
#define _IRQL_saves_
#define _IRQL_restores_
#define _IRQL_saves_global_(kind, parameter)
#define _IRQL_restores_global_(kind, parameter)
#define _IRQL_uses_cancel_
#define _IRQL_always_function_max_(irql)
#define _Function_class_(name)
#define _Dispatch_type_(major)
#define _Kernel_clear_do_init_(yes_or_no)
#define _Kernel_requires_resource_held_(kind)
#define _Kernel_entry_
#define __drv_allocatesMem(kind)
#define __drv_freesMem(kind)
#define __drv_aliasesMem
#define __drv_sameIRQL
#define __drv_maxIRQL(irql)
#define __drv_requiresIRQL(irql)
