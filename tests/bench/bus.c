/*
 * What the bus costs: publishes a transient event to four handlers, one in each phase, a million
 * times, and prints nanoseconds an event, from publish to the last handler's return (the event's
 * bytes are made too).
 */
#include "kernel_fixture.h"

#include "bakend/bus.h"
#include "bakend/clock.h"

#include <stdio.h>

enum { EVENT_COUNT = 1000000, BURST = 1000 };

static uint64_t handled_count, awaited_count;
static bool is_burst_done;

static enum bk_status on_event(struct bk_subscription *subscription, struct bk_tenant *tenant,
                               struct bk_event *event) {
    (void)subscription;
    (void)tenant;
    handled_count += event->fields.payload.length > 0 ? 1 : 0;
    is_burst_done = handled_count == awaited_count;
    return BK_OK;
}

static void publish_burst(struct support_kernel *kernel, struct bk_bus *bus) {
    const struct bk_event_draft draft = {
        .type = BK_SLICE("function.started"),
        .source = BK_SLICE("functions"),
        .subject = BK_SLICE("functions/welcome"),
        .payload = BK_SLICE("{\"name\":\"welcome\",\"attempt\":1}"),
        .is_transient = true,
    };
    for (int i = 0; i < BURST; i++)
        (void)bk_bus_publish(bus, kernel->tenant, &draft, NULL);
    awaited_count = handled_count + (uint64_t)BURST * BK_PHASE_COUNT;
    is_burst_done = false;
    bk_loop_run_until(kernel->loop, &is_burst_done);
}

int main(void) {
    struct support_kernel kernel;
    struct bk_subscription handlers[BK_PHASE_COUNT] = {0};
    support_kernel_create(&kernel, NULL);
    struct bk_bus *bus = bk_bus_create(kernel.loop, kernel.store, (struct bk_log){NULL, "bus"});
    support_kernel_open(&kernel);
    for (int i = 0; i < BK_PHASE_COUNT; i++) {
        handlers[i].name = "bench";
        handlers[i].phase = (enum bk_phase)i;
        handlers[i].pattern = i % 2 == 0 ? BK_SLICE("*") : BK_SLICE("function.started");
        handlers[i].on_event = on_event;
        bk_bus_subscribe(bus, &handlers[i]);
    }
    uint64_t start_ns = bk_clock_monotonic_ns();
    for (int i = 0; i < EVENT_COUNT / BURST; i++)
        publish_burst(&kernel, bus);
    uint64_t time_ns = bk_clock_monotonic_ns() - start_ns;
    printf("%.0f\n", (double)time_ns / EVENT_COUNT);
    for (int i = 0; i < BK_PHASE_COUNT; i++)
        bk_bus_unsubscribe(bus, &handlers[i]);
    support_kernel_close(&kernel);
    bk_bus_destroy(bus);
    support_kernel_destroy(&kernel);
    return handled_count == (uint64_t)EVENT_COUNT * BK_PHASE_COUNT ? 0 : 1;
}
