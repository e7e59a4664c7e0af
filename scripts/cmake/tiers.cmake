# Reads scripts/tiers.txt and gives each target exactly the headers its tier may use: a folder of
# symbolic links, <build>/include/<target>/bakend/, which with the target's own folder is its only
# include path inside the project. A header of another tier is therefore not found by the compiler.
#
# Links are made for every name the table allows, also for a header that does not exist yet, so that
# a new header needs no second configuration. A header in parentheses is linked too, since another
# one includes it; that the folder does not name it itself is the include-graph script's part.

set(tiers_file ${PROJECT_SOURCE_DIR}/scripts/tiers.txt)
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${tiers_file})

file(STRINGS ${tiers_file} tiers_lines REGEX "^(offers|uses|library) ")
foreach(line IN LISTS tiers_lines)
    separate_arguments(words UNIX_COMMAND "${line}")
    list(POP_FRONT words kind name)
    if(kind STREQUAL "library")
        list(POP_FRONT words package)
        list(APPEND tiers_libraries ${name})
        set(tiers_package_${name} ${package})
        set(tiers_owners_${name} ${words})
    else()
        list(APPEND tiers_${kind} ${name})
        string(REPLACE "/*" "/ANY" key ${name})
        set(tiers_${kind}_${key} ${words})
    endif()
endforeach()

# src/kernel/store -> kernel_store, src/modules/auth -> module_auth
function(tiers_target folder out)
    string(REGEX REPLACE "^src/" "" name ${folder})
    string(REGEX REPLACE "^modules/" "module_" name ${name})
    string(REPLACE "/" "_" name ${name})
    set(${out} ${name} PARENT_SCOPE)
endfunction()

# The items of the line for this folder; a line ending in /* stands for those without their own.
function(tiers_items folder out)
    get_filename_component(parent ${folder} DIRECTORY)
    if(${folder} IN_LIST tiers_uses)
        set(${out} ${tiers_uses_${folder}} PARENT_SCOPE)
    elseif("${parent}/*" IN_LIST tiers_uses)
        set(${out} ${tiers_uses_${parent}/ANY} PARENT_SCOPE)
    else()
        message(FATAL_ERROR "scripts/tiers.txt has no `uses` line for ${folder}: add one")
    endif()
endfunction()

# Whether path lies at or below one of the prefixes given after out.
function(tiers_is_below path out)
    set(${out} FALSE PARENT_SCOPE)
    foreach(prefix IN LISTS ARGN)
        if(path STREQUAL prefix OR path MATCHES "^${prefix}/")
            set(${out} TRUE PARENT_SCOPE)
        endif()
    endforeach()
endfunction()

# The headers (names without .h) and the offering folders that a folder may use.
function(tiers_allowed folder out_headers out_folders)
    tiers_items(${folder} items)
    set(headers ${tiers_offers_${folder}})
    set(folders)
    foreach(item IN LISTS items)
        if(item STREQUAL "*")
            file(GLOB all CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/include/bakend/*.h)
            list(TRANSFORM all REPLACE "^.*/(.*)\\.h$" "\\1")
            list(APPEND headers ${all})
            list(APPEND folders ${BAKEND_FOLDERS})
        elseif(item MATCHES "^\\(?([^()]*)\\.h\\)?$")
            list(APPEND headers ${CMAKE_MATCH_1})
        elseif(item MATCHES "/")
            foreach(offerer IN LISTS tiers_offers)
                tiers_is_below(${offerer} is_below ${item})
                if(is_below)
                    list(APPEND headers ${tiers_offers_${offerer}})
                    list(APPEND folders ${offerer})
                endif()
            endforeach()
        endif()
    endforeach()
    list(REMOVE_DUPLICATES headers)
    list(REMOVE_ITEM folders ${folder})
    set(${out_headers} ${headers} PARENT_SCOPE)
    set(${out_folders} ${folders} PARENT_SCOPE)
endfunction()

# Makes the include folder of one tier afresh and names it in out.
function(tiers_include_folder folder out)
    tiers_target(${folder} name)
    set(include ${PROJECT_BINARY_DIR}/include/${name})
    tiers_allowed(${folder} headers ignored)
    file(REMOVE_RECURSE ${include})
    file(MAKE_DIRECTORY ${include}/bakend)
    foreach(header IN LISTS headers)
        file(CREATE_LINK ${PROJECT_SOURCE_DIR}/include/bakend/${header}.h
            ${include}/bakend/${header}.h SYMBOLIC)
    endforeach()
    tiers_items(${folder} items)
    if("modules.def" IN_LIST items)
        file(CREATE_LINK ${PROJECT_SOURCE_DIR}/src/modules/modules.def ${include}/modules.def
            SYMBOLIC)
    endif()
    set(${out} ${include} PARENT_SCOPE)
endfunction()

# The third-party targets that a folder owns, or of which it owns a file or folder.
function(tiers_packages folder out)
    set(packages)
    foreach(header IN LISTS tiers_libraries)
        set(package ${tiers_package_${header}})
        foreach(owner IN LISTS tiers_owners_${header})
            tiers_is_below(${folder} is_inside ${owner})
            file(GLOB parts ${PROJECT_SOURCE_DIR}/${owner} ${PROJECT_SOURCE_DIR}/${owner}.c)
            get_filename_component(owner_folder ${owner} DIRECTORY)
            if(is_inside OR (parts AND owner_folder STREQUAL folder))
                bakend_find_package(${package} target)
                list(APPEND packages ${target})
            endif()
        endforeach()
    endforeach()
    set(${out} ${packages} PARENT_SCOPE)
endfunction()

# Gives a target (a folder's library, or a test of that folder) what the folder's tier may see.
function(tiers_apply target folder)
    tiers_target(${folder} name)
    tiers_packages(${folder} packages)
    target_include_directories(${target} PRIVATE
        ${PROJECT_SOURCE_DIR}/${folder} ${PROJECT_BINARY_DIR}/include/${name})
    target_link_libraries(${target} PRIVATE bakend_warnings ${packages})
endfunction()
