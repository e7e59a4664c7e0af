/* SHA-1 (FIPS 180-4), for the handshake's Sec-WebSocket-Accept, which RFC 6455 made of it. It
 * protects nothing here and is to protect nothing elsewhere: what must be secure uses crypto.h. */
#ifndef BAKEND_WEBSOCKET_SHA1_H
#define BAKEND_WEBSOCKET_SHA1_H

#include "bakend/slice.h"

enum { WEBSOCKET_SHA1_BYTES = 20 };

/* At most a megabyte, which is asserted. */
void websocket_sha1(uint8_t out[WEBSOCKET_SHA1_BYTES], struct bk_slice data);

#endif
