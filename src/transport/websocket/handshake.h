/* The opening handshake (RFC 6455, section 4.2): is a request one, and what is answered. */
#ifndef BAKEND_WEBSOCKET_HANDSHAKE_H
#define BAKEND_WEBSOCKET_HANDSHAKE_H

#include "bakend/api.h"

enum { WEBSOCKET_KEY_BYTES = 24, WEBSOCKET_ACCEPT_BYTES = 28 };

/* BK_OK, or it was answered: 426 when it asks for no WebSocket of version 13, 400 when its key is
 * wrong, 403 when a page of another origin made it that cors-origins does not name. */
enum bk_status websocket_handshake_check(struct bk_request *request);
/* Of a request that passed: Sec-WebSocket-Accept. No NUL. */
void websocket_handshake_accept(char out[WEBSOCKET_ACCEPT_BYTES], struct bk_slice key);
/* The whole answer to a request that passed, with the lines that the request's head has. */
void websocket_handshake_write(struct bk_request *request, struct bk_buffer *out);

#endif
