{
  "target_defaults": {
    "defines": ["NDIS_SUPPORT_NDIS630=1", "NDIS630=1"],
    "include_dirs": ["sim", "sim/include", "kext/wdk", "kext"],
    "cflags": ["-O2", "-fshort-wchar", "-fno-strict-aliasing", "-fvisibility=hidden", "-Wno-unknown-pragmas", "-Wno-multichar"],
    "cflags_c": ["-std=c17"],
    "cflags_cc": ["-std=c++17", "-fexceptions", "-Wno-subobject-linkage"],
    "cflags_cc!": ["-fno-exceptions"],
    "xcode_settings": {
      "GCC_OPTIMIZATION_LEVEL": "2",
      "GCC_ENABLE_CPP_EXCEPTIONS": "YES",
      "GCC_SYMBOLS_PRIVATE_EXTERN": "YES",
      "CLANG_CXX_LANGUAGE_STANDARD": "c++17",
      "GCC_C_LANGUAGE_STANDARD": "c17",
      "MACOSX_DEPLOYMENT_TARGET": "11.0",
      "OTHER_CFLAGS": ["-fshort-wchar", "-fno-strict-aliasing", "-Wno-unknown-pragmas", "-Wno-multichar"]
    }
  },
  "targets": [
    {
      "target_name": "netverdict",
      "sources": ["<!@(node scripts/native_sources.cjs)"],
      "include_dirs": ["<!@(node -p \"require('node-addon-api').include\")"],
      "defines": ["NAPI_VERSION=8", "NAPI_CPP_EXCEPTIONS", "NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS"],
      "conditions": [
        ["OS == 'win'", { "defines": ["_HAS_EXCEPTIONS=1"], "include_dirs!": ["sim", "sim/include", "kext/wdk", "kext"], "msvs_settings": { "VCCLCompilerTool": { "ExceptionHandling": 1, "AdditionalOptions": ["/std:c++17", "/W4", "/guard:cf"] } } }],
        ["OS != 'win'", { "defines": ["NETVERDICT_EMBEDDED"] }]
      ]
    }
  ]
}
