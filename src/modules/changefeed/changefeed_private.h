/* What the files of the change feed's module share. */
#ifndef BAKEND_CHANGEFEED_PRIVATE_H
#define BAKEND_CHANGEFEED_PRIVATE_H

#include "bakend/module.h"

/* GET /api/events and GET /api/events/{id}. */
void changefeed_list(struct bk_request *request);
void changefeed_view(struct bk_request *request);

/* Reads the query's vocabulary out of the request into its arena. What is wrong is in
 * request->problems, field by field. */
void changefeed_query_parse(struct bk_request *request, struct bk_feed_query *query);

#endif
