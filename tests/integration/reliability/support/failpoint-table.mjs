/**
 * Every failpoint of src/, and how it is reached. A new one is a line here; the test fails while it
 * has none.
 *
 *   at       the passing at which it acts; the first ones may belong to the start of the server
 *   drive    'story' (failpoint-story.mjs, over HTTP), 'restore' (the command), or
 *   unit     the unit test that proves it, of what no module of the program uses yet
 */
export const table = [
  { name: 'auth.credentials_read', drive: 'story', at: 1 },
  { name: 'backups.after_exchange', drive: 'restore', at: 1 },
  { name: 'backups.before_copy', drive: 'story', at: 1 },
  { name: 'backups.before_event', drive: 'story', at: 1 },
  { name: 'backups.before_exchange', drive: 'restore', at: 1 },
  { name: 'backups.before_pack', drive: 'story', at: 1 },
  { name: 'backups.before_rename', drive: 'story', at: 1 },
  { name: 'changefeed.after_place', drive: 'story', at: 2 },
  { name: 'changefeed.before_place', drive: 'story', at: 2 },
  { name: 'collections.snapshot', drive: 'story', at: 1 },
  { name: 'collections.snapshot_end', drive: 'story', at: 1 },
  { name: 'feed.after_hand', unit: 'kernel/feed/position_failpoint_test.c' },
  { name: 'feed.after_stored', unit: 'kernel/feed/position_failpoint_test.c' },
  { name: 'feed.before_acknowledge', unit: 'kernel/feed/position_failpoint_test.c' },
  { name: 'feed.before_hand', unit: 'kernel/feed/position_failpoint_test.c' },
  { name: 'feed.before_stored', unit: 'kernel/feed/position_failpoint_test.c' },
  { name: 'file.before_rename', drive: 'story', at: 1 },
  { name: 'migrations.committed', drive: 'story', at: 1 },
  { name: 'migrations.prepared', drive: 'story', at: 1 },
  { name: 'migrations.written', drive: 'story', at: 1 },
  { name: 'schema.search_slice', unit: 'kernel/schema/search_test.c' },
  { name: 'store.after_begin', drive: 'story', at: 5 },
  { name: 'store.after_commit', drive: 'story', at: 5 },
  { name: 'store.before_answer', drive: 'story', at: 5 },
  { name: 'store.before_begin', drive: 'story', at: 5 },
  { name: 'store.before_bus', drive: 'story', at: 7 },
  { name: 'store.before_commit', drive: 'story', at: 7 },
  { name: 'store.head', drive: 'story', at: 1 },
  { name: 'store.statement', drive: 'story', at: 20 },
  { name: 'store.write', drive: 'story', at: 5 },
  { name: 'tenants.after_directory', drive: 'story', at: 1 },
  { name: 'tenants.after_record', drive: 'story', at: 1 },
  { name: 'tenants.before_deletion', drive: 'story', at: 1 },
  { name: 'tenants.before_record', drive: 'story', at: 1 },
  { name: 'tenants.before_removal', drive: 'story', at: 1 },
  { name: 'work.added', drive: 'story', at: 1 },
  { name: 'work.after_record', drive: 'story', at: 1 },
  { name: 'work.answered', drive: 'story', at: 1 },
  { name: 'work.claimed', drive: 'story', at: 1 },
  { name: 'work.cleared', unit: 'kernel/work/clear_test.c' },
  { name: 'work.handler', drive: 'story', at: 1 },
  { name: 'work.moved', drive: 'story', at: 1 },
  { name: 'work.recorded', drive: 'story', at: 1 },
];
