/* What the process is before anything else runs in it. */
#ifndef BAKEND_SERVER_PROCESS_SETUP_H
#define BAKEND_SERVER_PROCESS_SETUP_H

#include "bakend/error.h"

/* Private files (umask 077), no core dumps, as many descriptors as the system allows, memory
 * that is freed given back, standard descriptors open, SIGPIPE ignored, failpoints read,
 * cryptography ready. */
enum bk_status process_setup(struct bk_error *error);

#endif
