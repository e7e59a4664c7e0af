/* "127.0.0.1:8090", "[::1]:8090", "*:8090", ":0": what --listen takes. */
#ifndef BAKEND_SERVER_ADDRESS_H
#define BAKEND_SERVER_ADDRESS_H

#include "bakend/error.h"
#include <stdint.h>

enum { ADDRESS_HOST_BYTES_MAX = 255 };

struct listen_address {
    char host[ADDRESS_HOST_BYTES_MAX + 1]; /* without brackets; "*": every address */
    uint16_t port;
};

/* BK_INVALID. */
enum bk_status listen_address_parse(struct listen_address *address, const char *text,
                                    struct bk_error *error);

#endif
