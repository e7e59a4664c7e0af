# Finds third-party libraries by their pkg-config name, when a folder that owns one is built.

find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)

# Debian ships llhttp as C sources only. Strict mode closes several request-smuggling doors that
# the lenient default leaves open.
function(bakend_add_llhttp)
    find_path(LLHTTP_SOURCE llhttp.c PATHS /usr/share/llhttp NO_DEFAULT_PATH)
    find_path(LLHTTP_INCLUDE llhttp.h PATHS /usr/share/include/llhttp NO_DEFAULT_PATH)
    if(NOT LLHTTP_SOURCE OR NOT LLHTTP_INCLUDE)
        message(FATAL_ERROR "llhttp is missing: install Debian's package node-llhttp")
    endif()
    file(GLOB sources ${LLHTTP_SOURCE}/*.c)
    add_library(llhttp STATIC ${sources})
    target_compile_definitions(llhttp PRIVATE LLHTTP_STRICT_MODE=1)
    target_compile_options(llhttp PRIVATE -w)
    target_include_directories(llhttp SYSTEM PUBLIC ${LLHTTP_INCLUDE})
endfunction()

# Names the target of a package in out; a missing one ends the configuration.
function(bakend_find_package package out)
    if(package STREQUAL "llhttp")
        if(NOT TARGET llhttp)
            bakend_add_llhttp()
        endif()
        set(${out} llhttp PARENT_SCOPE)
        return()
    endif()
    string(MAKE_C_IDENTIFIER ${package} prefix)
    if(NOT TARGET PkgConfig::${prefix})
        pkg_check_modules(${prefix} REQUIRED QUIET IMPORTED_TARGET GLOBAL ${package})
    endif()
    set(${out} PkgConfig::${prefix} PARENT_SCOPE)
endfunction()
