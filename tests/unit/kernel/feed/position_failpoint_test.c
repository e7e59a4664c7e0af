/*
 * Proves that a position loses nothing when the process dies at any place of a hand-over, of an
 * acknowledgement or of the storing of it, nor when that fails: what comes next is handed over from
 * where it was stored, so each event comes at least once and in order.
 *
 * A child lives the first life, without anything of the parent's but the directory; what it has
 * acknowledged stands in memory that both share.
 */
#include "position_private.h"

#include "bakend/alloc.h"
#include "bakend/failpoint.h"
#include "position_fixture.h"
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { TAIL_BYTES = 24 * 1024, EVENTS = 20, SPEC_BYTES = 64, LIFE_MS = 20000 };

/* Each up to its action. It acts in the middle of the events; where positions are stored, once all
 * but the last event are: what is stored is then all that was acknowledged, or all but one. */
static const char *const POINTS[] = {
    "feed.before_hand:", "feed.after_hand:", "feed.before_acknowledge:", "feed.before_stored:",
    "feed.after_stored:"};

static struct support_feed fixture;
static volatile uint64_t *acknowledged; /* shared; the last one */

static void open_kernel(void) {
    fixture.feed->positions->retry_first_ms = 20;
    fixture.feed->positions->retry_max_ms = 200;
    support_kernel_open(&fixture.kernel);
}

/* On a directory that another process has made, or will go on with. Nothing may run yet. */
static void start_in(char *directory) {
    support_feed_create(&fixture, NULL, TAIL_BYTES);
    support_feed_close(&fixture);
    support_directory_remove(fixture.kernel.directory);
    fixture.kernel.directory = directory;
    support_feed_restart(&fixture, TAIL_BYTES);
    open_kernel();
}

static enum bk_handed on_event(struct support_reader *reader, struct bk_event *event) {
    (void)reader;
    *acknowledged = event->fields.sequence;
    return BK_HANDED_DONE;
}

static enum bk_status open_reader(struct support_reader *reader) {
    reader->on_event = on_event;
    return support_reader_open_now(&fixture.kernel, fixture.feed, reader, "test/a");
}

static bool is_about_storing(const char *point) { return strstr(point, "stored") != NULL; }

static void configure(const char *point, const char *action, int passing) {
    char spec[SPEC_BYTES];
    (void)snprintf(spec, sizeof(spec), "%s%s@%d", point, action, passing);
    assert_int_equal(bk_failpoint_configure(spec), BK_OK);
}

static uint64_t last_sequence(void) {
    return bk_journal_state(fixture.kernel.tenant->database).last;
}

static bool is_through(const struct support_reader *reader) {
    struct feed_positions *all = feed_positions_of(fixture.feed, fixture.kernel.tenant);
    return support_reader_acknowledged(reader) == last_sequence() &&
           bk_list_is_empty(&all->store.dirty) && !all->store.is_writing;
}

static void go_through(const struct support_reader *reader) {
    for (int round = 0; round < LIFE_MS && !is_through(reader); round++)
        support_loop_run_for(fixture.kernel.loop, 1);
}

/* Emits one by one, so that the position is stored in between. */
static void live(struct support_reader *reader, const char *point, const char *action) {
    if (!is_about_storing(point))
        configure(point, action, EVENTS / 2);
    assert_int_equal(open_reader(reader), BK_OK);
    for (int i = 1; i < EVENTS; i++)
        support_feed_emit(&fixture, "posts.created", "posts/a", 1);
    go_through(reader);
    if (is_about_storing(point))
        configure(point, action, 1);
    support_feed_emit(&fixture, "posts.created", "posts/a", 1);
    go_through(reader);
}

static void die_in_a_child(char *directory, const char *point) {
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        struct support_reader reader = {0};
        start_in(directory);
        live(&reader, point, "kill");
        _exit(1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void after_a_death_each_event_comes_at_least_once_and_in_order(void **state) {
    (void)state;
    for (size_t i = 0; i < BK_COUNT_OF(POINTS); i++) {
        struct support_reader reader = {0};
        char *directory = support_directory_create();
        uint64_t before;
        *acknowledged = 0;
        die_in_a_child(directory, POINTS[i]);
        before = *acknowledged;
        start_in(directory);
        support_feed_emit(&fixture, "posts.created", "posts/a", 1);
        assert_int_equal(open_reader(&reader), BK_OK);
        SUPPORT_RUN_UNTIL(&fixture.kernel, is_through(&reader));
        /* It goes on at the latest behind what the first life has acknowledged. */
        assert_true(reader.seen_count > 0 && reader.seen[0] <= before + 1);
        for (size_t j = 1; j < reader.seen_count; j++)
            assert_int_equal(reader.seen[j], reader.seen[j - 1] + 1);
        assert_int_equal(*acknowledged, last_sequence());
        support_reader_fini(&reader);
        support_feed_close(&fixture);
        support_feed_destroy(&fixture);
    }
}

static void after_a_failure_each_event_comes_at_least_once_and_in_order(void **state) {
    static const char *const actions[] = {"error", "full", "sleep=50"};
    (void)state;
    for (size_t i = 0; i < BK_COUNT_OF(POINTS) * BK_COUNT_OF(actions); i++) {
        struct support_reader reader = {0};
        support_feed_create(&fixture, NULL, TAIL_BYTES);
        open_kernel();
        live(&reader, POINTS[i / BK_COUNT_OF(actions)], actions[i % BK_COUNT_OF(actions)]);
        assert_true(is_through(&reader));
        for (size_t j = 1; j < reader.seen_count; j++)
            assert_int_equal(reader.seen[j], reader.seen[j - 1] + 1);
        assert_int_equal(reader.seen[reader.seen_count - 1], last_sequence());
        support_reader_fini(&reader);
        support_feed_close(&fixture);
        support_feed_destroy(&fixture);
        assert_int_equal(bk_failpoint_configure(NULL), BK_OK);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(after_a_death_each_event_comes_at_least_once_and_in_order),
        cmocka_unit_test(after_a_failure_each_event_comes_at_least_once_and_in_order),
    };
    acknowledged = mmap(NULL, sizeof(*acknowledged), PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (acknowledged == MAP_FAILED)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
