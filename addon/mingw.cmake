# The addon for Windows, cross-built. It imports Node-API from the program that loads it, whatever its name is.
set(NODE_API_HEADERS ${PROJECT_SOURCE_DIR}/node_modules/node-api-headers)

# Windows' headers conflict with those of the simulated kernel: files that use them are compiled apart.
file(GLOB WIN32_SOURCES CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/win32/*.cc)
add_library(netverdict_win32 OBJECT ${WIN32_SOURCES})
set_target_properties(netverdict_win32 PROPERTIES CXX_STANDARD 17 CXX_STANDARD_REQUIRED ON)
target_compile_definitions(netverdict_win32 PRIVATE NAPI_VERSION=8 NAPI_CPP_EXCEPTIONS UNICODE
    NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS _WIN32_WINNT=0x0A00)
target_compile_options(netverdict_win32 PRIVATE -Wall -Wextra -Werror)
target_include_directories(netverdict_win32 SYSTEM PRIVATE
    ${PROJECT_SOURCE_DIR}/${NODE_ADDON_API_INCLUDE} ${NODE_API_HEADERS}/include)

foreach(library js_native_api node_api)
    set(import_library ${CMAKE_CURRENT_BINARY_DIR}/lib${library}.a)
    add_custom_command(
        OUTPUT ${import_library}
        COMMAND ${CMAKE_DLLTOOL} -m i386:x86-64 -d ${NODE_API_HEADERS}/def/${library}.def
                --output-delaylib ${import_library}
        VERBATIM)
    list(APPEND NODE_API_LIBRARIES ${import_library})
endforeach()
add_custom_target(node-api-imports DEPENDS ${NODE_API_LIBRARIES})
add_dependencies(netverdict_addon node-api-imports)

target_include_directories(netverdict_addon SYSTEM PRIVATE ${NODE_API_HEADERS}/include)
set_target_properties(netverdict_addon PROPERTIES LINK_DEPENDS "${NODE_API_LIBRARIES}")
target_link_libraries(netverdict_addon PRIVATE netverdict_win32 ${NODE_API_LIBRARIES})
target_link_options(netverdict_addon PRIVATE -static -static-libgcc -static-libstdc++ -s
    -Wl,--dynamicbase -Wl,--nxcompat -Wl,--high-entropy-va -Wl,--no-insert-timestamp)
