# Finds the Windows Driver Kit beside Visual Studio's toolset.
#
# It sets WDK_FOUND and WDK_VERSION, and defines
#   wdk_add_driver(<target> LIBRARIES <library>… SOURCES <file>…)
# which adds <target>.sys, a kernel-mode driver. Libraries are the kit's, by name.
# WDK_MESSAGE_COMPILER is the Windows SDK's mc.exe.
# WDK_CODE_ANALYSIS turns on Code Analysis. The environment variable WDKContentRoot overrides the kit's folder.

if(DEFINED ENV{WDKContentRoot})
    cmake_path(SET WDK_ROOT NORMALIZE "$ENV{WDKContentRoot}")
else()
    set(WDK_ROOT "C:/Program Files (x86)/Windows Kits/10")
endif()

if(CMAKE_C_COMPILER_ARCHITECTURE_ID STREQUAL "ARM64")
    set(WDK_ARCHITECTURE arm64)
    set(WDK_DEFINITIONS _ARM64_ ARM64)
    set(WDK_LIBRARIES arm64rt) # the compiler's helpers
else()
    set(WDK_ARCHITECTURE x64)
    set(WDK_DEFINITIONS _AMD64_ AMD64)
endif()

file(GLOB WDK_HEADERS "${WDK_ROOT}/Include/*/km/ntddk.h")
list(SORT WDK_HEADERS COMPARE NATURAL ORDER DESCENDING)
foreach(header IN LISTS WDK_HEADERS)
    string(REGEX REPLACE "^.*/Include/([^/]+)/km/ntddk\\.h$" "\\1" version "${header}")
    if(EXISTS "${WDK_ROOT}/Lib/${version}/km/${WDK_ARCHITECTURE}/ntoskrnl.lib")
        set(WDK_VERSION ${version})
        break()
    endif()
endforeach()

find_program(WDK_MESSAGE_COMPILER mc HINTS "${WDK_ROOT}/bin/${WDK_VERSION}/x64" "${WDK_ROOT}/bin/${WDK_VERSION}/arm64")

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(WDK REQUIRED_VARS WDK_ROOT WDK_VERSION WDK_MESSAGE_COMPILER VERSION_VAR WDK_VERSION)

# A driver has none of user mode's libraries and run-time checks.
set(CMAKE_C_STANDARD_LIBRARIES "")
string(REPLACE "/RTC1" "" CMAKE_C_FLAGS_DEBUG "${CMAKE_C_FLAGS_DEBUG}")

option(WDK_CODE_ANALYSIS "Build drivers with /analyze" OFF)

function(wdk_add_driver target)
    cmake_parse_arguments(PARSE_ARGV 1 driver "" "" "LIBRARIES;SOURCES")
    set(include "${WDK_ROOT}/Include/${WDK_VERSION}")
    set(libraries "${WDK_ROOT}/Lib/${WDK_VERSION}/km/${WDK_ARCHITECTURE}")
    list(APPEND driver_LIBRARIES BufferOverflowFastFailK ntoskrnl hal ${WDK_LIBRARIES})
    list(TRANSFORM driver_LIBRARIES REPLACE "^(.+)$" "${libraries}/\\1.lib")

    add_executable(${target} ${driver_SOURCES})
    set_target_properties(${target} PROPERTIES SUFFIX .sys MSVC_RUNTIME_LIBRARY "")
    target_include_directories(${target} SYSTEM BEFORE PRIVATE "${include}/km/crt" "${include}/km" "${include}/shared")
    target_compile_definitions(${target} PRIVATE ${WDK_DEFINITIONS} _WIN64 POOL_NX_OPTIN_AUTO=1 $<$<CONFIG:Debug>:DBG=1>)
    # Kernel mode, with guards of buffers, branches and speculation.
    # C17 turns on the standard preprocessor, which refuses macros of the kit's ndis.h.
    target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:C>:
        /kernel /Zc:preprocessor- /W4 /WX /GS /guard:cf /Qspectre /Gy /Gw /Zi /Zp8 /Oi /Oy- /GF /external:W0
        $<$<BOOL:${WDK_CODE_ANALYSIS}>:/analyze>>)
    target_link_options(${target} PRIVATE
        /DRIVER /KERNEL /SUBSYSTEM:NATIVE,10.00 /ENTRY:GsDriverEntry /NODEFAULTLIB /MANIFEST:NO /INCREMENTAL:NO
        /DYNAMICBASE /NXCOMPAT /HIGHENTROPYVA /INTEGRITYCHECK /GUARD:CF /RELEASE /OPT:REF /OPT:ICF /DEBUG:FULL /WX
        /SECTION:INIT,d /IGNORE:4078) # INIT is freed after the start; 4078 warns of sections whose attributes differ
    target_link_libraries(${target} PRIVATE ${driver_LIBRARIES})
endfunction()
