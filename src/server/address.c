/* The port is what follows the last colon, so that an IPv6 address needs its brackets. */
#include "address.h"

#include "bakend/slice.h"

static bool is_host(struct bk_slice host, bool is_bracketed) {
    if (host.length > ADDRESS_HOST_BYTES_MAX)
        return false;
    return is_bracketed ? host.length > 0 : bk_slice_find(host, ':') == host.length;
}

enum bk_status listen_address_parse(struct listen_address *address, const char *text,
                                    struct bk_error *error) {
    struct bk_slice all = bk_slice_from(text);
    size_t colon = all.length;
    while (colon > 0 && all.data[colon - 1] != ':')
        colon--;
    struct bk_slice host = bk_slice_make(all.data, colon > 0 ? colon - 1 : 0);
    bool is_bracketed =
        host.length >= 2 && host.data[0] == '[' && host.data[host.length - 1] == ']';
    if (is_bracketed)
        host = bk_slice_make(host.data + 1, host.length - 2);
    int64_t port = -1;
    if (colon == 0 || !is_host(host, is_bracketed) ||
        !bk_slice_to_int64(bk_slice_make(all.data + colon, all.length - colon), &port) ||
        port < 0 || port > UINT16_MAX)
        return bk_error_set(error, BK_INVALID,
                            "--listen: \"%s\" must be an address and a port, such as "
                            "127.0.0.1:8090, [::1]:8090 or *:8090",
                            text);
    if (host.length == 0)
        host = BK_SLICE("*");
    memcpy(address->host, host.data, host.length);
    address->host[host.length] = '\0';
    address->port = (uint16_t)port;
    return BK_OK;
}
