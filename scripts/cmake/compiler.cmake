# Compiler and linker flags. Warnings are a target of their own, since code that is not ours
# (llhttp) is built without them; all else holds for everything that is linked together.

add_library(bakend_warnings INTERFACE)
target_compile_options(bakend_warnings INTERFACE
    -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wcast-qual -Wmissing-prototypes
    -Wstrict-prototypes -Wvla)
if(BAKEND_WERROR)
    target_compile_options(bakend_warnings INTERFACE -Werror)
endif()

if(BAKEND_FUZZ)
    if(NOT CMAKE_C_COMPILER_ID STREQUAL "Clang")
        message(FATAL_ERROR "BAKEND_FUZZ needs clang: cmake --preset fuzz")
    endif()
    add_compile_options(-fsanitize=fuzzer-no-link)
endif()

if(BAKEND_SANITIZE)
    add_compile_options(-fsanitize=${BAKEND_SANITIZE} -fno-sanitize-recover=all)
    add_link_options(-fsanitize=${BAKEND_SANITIZE})
endif()

if(BAKEND_COVERAGE)
    # Counters are shared by threads, so they must be atomic or lines would seem unvisited.
    add_compile_options(--coverage -fprofile-update=atomic)
    add_link_options(--coverage)
endif()

if(BAKEND_HARDEN)
    add_compile_options(-fstack-protector-strong -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2 -fPIE
        -fcf-protection -ftrivial-auto-var-init=zero -ffunction-sections -fdata-sections)
    add_link_options(-pie -Wl,-z,relro,-z,now -Wl,--gc-sections)
endif()

if(BAKEND_LTO)
    include(CheckIPOSupported)
    check_ipo_supported(RESULT lto_works OUTPUT lto_problem LANGUAGES C)
    if(lto_works)
        set(CMAKE_INTERPROCEDURAL_OPTIMIZATION ON)
    else()
        message(WARNING "link-time optimisation does not work here: ${lto_problem}")
    endif()
endif()
