# netverdict.sys over mingw-w64's DDK: by GCC for x64; by Clang for AArch64, to show that it compiles and links.

set(KEXT_DDK ${CMAKE_FIND_ROOT_PATH}/include/ddk)
# None of user mode's.
set(CMAKE_C_STANDARD_LIBRARIES "")
set(KEXT_EXPORTS fwpkclnt ndis netio)

if(CMAKE_SYSTEM_PROCESSOR STREQUAL "aarch64")
    find_program(LLD_LINK NAMES lld-link-19 lld-link REQUIRED)
    set(KEXT_IMPORT_TOOL ${LLD_LINK} /lib /machine:arm64)
    set(KEXT_DEF_OPTION /def:)
    set(KEXT_OUT_OPTION /out:)
    list(APPEND KEXT_EXPORTS ntoskrnl)
    # The latter two keep mingw-w64's headers from defining a function in every object.
    set(KEXT_PROCESSOR_OPTIONS -fasynchronous-unwind-tables -D_M_ARM -D__INTRINSIC_DEFINED_InterlockedBitTestAndReset
        -D__INTRINSIC_DEFINED_InterlockedBitTestAndSet -isystem ${CMAKE_CURRENT_SOURCE_DIR}/wdk/aarch64)
    set(KEXT_HEADERS ${CMAKE_FIND_ROOT_PATH}/include)
    set(KEXT_LINK_OPTIONS -fuse-ld=lld-19 -Wl,--Xlink=/integritycheck
        "SHELL:-Xlinker --Xlink=/section:INIT,erd")
else()
    set(KEXT_IMPORT_TOOL ${CMAKE_DLLTOOL} -m i386:x86-64)
    set(KEXT_DEF_OPTION --input-def=)
    set(KEXT_OUT_OPTION --output-lib=)
    set(KEXT_LINK_OPTIONS -Wl,--forceinteg)
    set(KEXT_LIBRARIES ntoskrnl hal)
endif()

foreach(library IN LISTS KEXT_EXPORTS)
    set(import ${CMAKE_CURRENT_BINARY_DIR}/lib${library}.a)
    add_custom_command(
        OUTPUT ${import}
        COMMAND ${KEXT_IMPORT_TOOL} ${KEXT_DEF_OPTION}${CMAKE_CURRENT_SOURCE_DIR}/exports/${library}.def
                ${KEXT_OUT_OPTION}${import}
        DEPENDS exports/${library}.def
        VERBATIM)
    list(APPEND KEXT_IMPORT_LIBRARIES ${import})
endforeach()
add_custom_target(kext-imports DEPENDS ${KEXT_IMPORT_LIBRARIES})

kext_add_messages(${CMAKE_MC_COMPILER})
add_library(netverdict SHARED ${KEXT_SOURCES} wdk/wdmsec.c netverdict.rc ${KEXT_MESSAGES})
add_dependencies(netverdict kext-imports)
set_target_properties(netverdict PROPERTIES
    C_STANDARD 17 C_STANDARD_REQUIRED ON
    PREFIX "" SUFFIX .sys
    LINK_DEPENDS "${KEXT_IMPORT_LIBRARIES}")
target_compile_definitions(netverdict PRIVATE
    ${KEXT_DEFINITIONS} KEXT_MINGW_DDK _WIN32_WINNT=0x0A00 NTDDI_VERSION=0x0A000000)
target_include_directories(netverdict BEFORE PRIVATE wdk . ${KEXT_MESSAGES_FOLDER})
target_include_directories(netverdict SYSTEM PRIVATE ${KEXT_DDK} ${KEXT_HEADERS})
target_compile_options(netverdict PRIVATE $<$<COMPILE_LANGUAGE:C>:${KEXT_WARNINGS} ${KEXT_PROCESSOR_OPTIONS} -O2
    -ffreestanding -fno-stack-protector -fno-strict-aliasing>)
target_link_options(netverdict PRIVATE
    -nostdlib -shared -Wl,--subsystem,native -Wl,--entry,DriverEntry -Wl,--exclude-all-symbols
    -Wl,--dynamicbase -Wl,--nxcompat -Wl,--high-entropy-va -Wl,--file-alignment,0x200 -Wl,--no-insert-timestamp
    -Wl,--major-os-version,10 -Wl,--minor-os-version,0
    -Wl,--major-subsystem-version,10 -Wl,--minor-subsystem-version,0 -s ${KEXT_LINK_OPTIONS})
target_link_libraries(netverdict PRIVATE ${KEXT_IMPORT_LIBRARIES} ${KEXT_LIBRARIES})
if(NOT CMAKE_SYSTEM_PROCESSOR STREQUAL "aarch64")
    # Discardable, so that Windows frees it after the start: in a PE image that is what GNU calls debug. The linker drops it.
    add_custom_command(TARGET netverdict POST_BUILD
        COMMAND ${CMAKE_OBJCOPY} --preserve-dates --strip-all
                --set-section-flags INIT=alloc,load,readonly,code,debug $<TARGET_FILE:netverdict>
        VERBATIM)
endif()
