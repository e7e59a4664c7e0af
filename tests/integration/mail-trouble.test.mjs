/**
 * Mail servers that refuse, stall, drop and go away, and a program that is killed: a mail is sent at
 * least once, or it is said why not. The tests mostly wait, so they wait at the same time.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { actions, start } from './support/mail.mjs';
import { startServer, temporaryFolder } from './support/program.mjs';
import { eventually, refuse, startMailServer, startRawServer } from './support/smtp.mjs';
import { createSuperuser, signIn } from './support/superuser.mjs';

describe('mail, when something is wrong', { concurrency: true }, () => {
  test('what the server answers decides', async (t) => {
    const api = await start(t);
    const on = {};
    const smtp = await startMailServer(t, {}, { on });
    await api.useSmtp(smtp.port);
    const only = (stage, error, address) => {
      for (const each of ['mailFrom', 'rcptTo', 'data']) delete on[each];
      on[stage] = (what) => {
        if (!address || what.address === address) throw error;
      };
    };

    for (const stage of ['mailFrom', 'rcptTo', 'data'])
      await t.test(`5xx at ${stage} is the end`, async () => {
        only(stage, refuse(550, 'we do not know you'));
        const end = await api.end(await api.send({ to: 'ann@example.com' }), 'mail.failed');
        assert.equal(end.status, 550);
        assert.match(end.error, /550.*we do not know you/);
        assert.deepEqual([end.attempts, end.transport, end.to], [1, 'smtp', ['ann@example.com']]);
      });

    await t.test('4xx is not', async () => {
      const tasks = [];
      for (const stage of ['mailFrom', 'rcptTo', 'data']) {
        only(stage, refuse(451, 'later'));
        const task = await api.send({ to: `${stage.toLowerCase()}@example.com` });
        tasks.push(task);
        await api.server.logged('mail_not_sent', task, '451');
      }
      for (const stage of ['mailFrom', 'rcptTo', 'data']) delete on[stage];
      for (const task of tasks) assert.equal((await api.end(task)).attempts, 2);
      assert.equal(smtp.mails.length, 3);
      smtp.mails.length = 0;
    });

    await t.test('who is greylisted holds nobody up', async () => {
      on.rcptTo = ({ address }) => {
        if (address.startsWith('grey')) throw refuse(450, 'greylisted');
      };
      const grey = [];
      for (let i = 0; i < 8; i++) grey.push(await api.send({ to: `grey${i}@example.com` }));
      for (const task of grey) await api.server.logged('mail_not_sent', task, '450');
      assert.equal((await api.end(await api.send({ to: 'good@example.com' }))).attempts, 1);
      assert.doesNotMatch(api.server.log.join('\n'), /lane_broken/);
      delete on.rcptTo;
      for (const task of grey) await api.ask('POST', `/api/work/${task}/retry`);
      for (const task of grey) await api.end(task);
      smtp.mails.length = 0;
    });

    await t.test('one of several may be refused', async () => {
      const to = ['ann@example.com', 'bob@example.com', 'cy@example.com'];
      on.rcptTo = ({ address }) => {
        if (address === 'bob@example.com') throw refuse(550, 'no such user');
        if (address === 'cy@example.com') throw refuse(450, 'greylisted');
      };
      const end = await api.end(await api.send({ to }));
      assert.deepEqual(
        [end.to, end.refused, end.deferred],
        [['ann@example.com'], ['bob@example.com'], ['cy@example.com']],
      );
      const first = await smtp.take('ann@example.com');
      assert.deepEqual(first.recipients, ['ann@example.com']);
      delete on.rcptTo;
      const left = await eventually('a task for who may take it later', async () => {
        const { body } = await api.ask('GET', '/api/work?filter=state="waiting"');
        return body.items[0];
      });
      const retried = await api.ask('POST', `/api/work/${left.id}/retry`);
      assert.equal(retried.status, 204, retried.text);
      const rest = await smtp.take('cy@example.com');
      assert.deepEqual(rest.recipients, ['cy@example.com'], 'nobody gets it again');
      assert.equal(rest.messageId, first.messageId);
      assert.equal(rest.to.text, first.to.text);
      assert.deepEqual((await api.end(left.id)).to, ['cy@example.com']);
    });
  });

  test('a server that misbehaves is said to, and soon', async (t) => {
    const api = await start(t, { args: ['--mail-timeout', '1s'] });
    const bad = {
      'never greets': () => {},
      'cuts the line at once': (socket) => socket.end(),
      'speaks another language': (socket) => socket.write('HTTP/1.1 200 OK\r\n\r\n'),
      'sends noise': (socket) => socket.write('\0\xff\xfe\r\n'.repeat(1000)),
      'is closed': (socket) => socket.write('554 no service\r\n'),
      'never ends a line': (socket) => socket.write('220-' + 'x'.repeat(200_000)),
      'falls silent': (socket) => {
        socket.write('220 hello\r\n');
        socket.once('data', () => socket.write('250 hello\r\n'));
      },
      'cuts the line in the middle': (socket) => {
        socket.write('220 hello\r\n');
        socket.once('data', () => socket.write('250 hello\r\n', () => socket.destroy()));
      },
    };
    for (const [name, talk] of Object.entries(bad))
      await t.test(name, async () => {
        const raw = await startRawServer(t, talk);
        await api.useSmtp(raw.port);
        const began = Date.now();
        await api.refused('ann@example.com');
        assert.ok(Date.now() - began < 5000);
      });
    await t.test('is not there', async () => {
      await api.useSmtp(1); /* nobody listens there */
      const said = await api.refused('ann@example.com');
      assert.match(said, /the mail server 127\.0\.0\.1:1: connect: .*: Connection refused/);
    });
  });

  test('a server that comes back gets what waited', async (t) => {
    const api = await start(t);
    /* The port is held all the time: a free one might be taken by a server of another test. */
    const down = await startRawServer(t, (socket) => socket.destroy());
    const { port } = down;
    await api.useSmtp(port);
    const tasks = [];
    for (let i = 0; i < 8; i++) tasks.push(await api.send({ to: `user${i}@example.com` }));
    await eventually('five failures', () =>
      api.server.log.filter((line) => line.includes('mail_not_sent')).length >= 5 ? true : null,
    );
    await down.close();
    const smtp = await startMailServer(t, {}, { port });
    for (const task of tasks) assert.ok((await api.end(task)).attempts >= 1);
    assert.equal(smtp.mails.length, tasks.length);
  });

  test('a tenant whose mail server hangs holds up none of the others', async (t) => {
    const { server, ask } = await start(t, { args: ['--mail-allow', '127.0.0.1'] });
    const hung = await startMailServer(t, {}, { on: { mailFrom: () => new Promise(() => {}) } });
    const well = await startMailServer(t);
    const tenants = {};
    for (const [name, { port }] of Object.entries({ first: hung, second: hung, third: well })) {
      await ask('POST', '/api/tenants', { name });
      await createSuperuser(server, { tenant: name });
      tenants[name] = actions(server, await signIn(server, { tenant: name }), name);
      await tenants[name].useSmtp(port);
    }
    for (let i = 0; i < 6; i++)
      for (const name of ['first', 'second']) await tenants[name].send({ to: `n${i}@example.com` });
    await eventually('connections that hang', () => hung.sessions >= 4);
    const task = await tenants.third.send({ to: 'ann@example.com' });
    await well.take('ann@example.com'); /* long before --mail-timeout */
    assert.equal((await tenants.third.end(task)).attempts, 1);
    assert.doesNotMatch(server.log.join('\n'), /mail_not_sent/, 'none has given up yet');
  });

  test('mended settings are tried at once, and not at the next probe', async (t) => {
    const api = await start(t);
    const down = await startRawServer(t, (socket) => socket.destroy());
    await api.useSmtp(down.port);
    const failures = () => api.server.log.filter((line) => line.includes('mail_not_sent')).length;
    const tasks = [];
    for (let i = 0; i < 5; i++) tasks.push(await api.send({ to: `user${i}@example.com` }));
    /* Five break the lane; the sixth is its first probe, and the next one may begin 10 s later. */
    await eventually('a lane that is broken', () => failures() === 5);
    tasks.push(await api.send({ to: 'user5@example.com' }));
    await eventually('a probe that fails', () => failures() === 6);
    const probed = Date.now();
    const smtp = await startMailServer(t);
    await api.useSmtp(smtp.port);
    const mended = Date.now();
    await eventually('a mail', () => smtp.mails.length > 0);
    if (mended - probed < 2000) assert.ok(Date.now() - probed < 9500, 'it waited for the probe');
    for (const task of tasks) await api.end(task);
    assert.equal(smtp.mails.length, tasks.length);
  });

  test('SIGTERM while a server thinks about a mail: it is waited for, and not sent again', async (t) => {
    const folder = await temporaryFolder(t);
    const api = await start(t, { folder });
    let answer;
    const on = { data: () => new Promise((resolve) => { answer = resolve; }) };
    const smtp = await startMailServer(t, {}, { on });
    await api.useSmtp(smtp.port);
    const task = await api.send({ to: 'ann@example.com' });
    await eventually('a mail that is being taken', () => answer);
    const stopped = api.server.stop();
    await api.server.logged('stopping');
    await new Promise((resolve) => setTimeout(resolve, 200));
    assert.ok(api.server.isRunning, 'the answer is waited for');
    answer();
    await stopped;
    assert.equal(smtp.mails.length, 1);
    const server = await startServer(t, { folder });
    const again = actions(server, await signIn(server));
    assert.equal((await again.end(task)).attempts, 1);
    const { body } = await again.ask('GET', '/api/work');
    assert.deepEqual(body.items, [], 'nothing is left to be sent');
    assert.equal(smtp.sessions, 1);
  });

  test('SIGTERM while a server stalls: it stops soon, and the mail is as if never begun', async (t) => {
    const folder = await temporaryFolder(t);
    const api = await start(t, { folder });
    const raw = await startRawServer(t, (socket) => socket.write('220 hello\r\n'));
    await api.useSmtp(raw.port);
    const given = await api.send({ to: 'bob@example.com' });
    await eventually('a connection', () => raw.sockets.size > 0);
    assert.equal((await api.ask('POST', `/api/work/${given}/cancel`)).status, 204);
    assert.equal((await api.end(given, 'mail.failed')).error, 'cancelled');
    const task = await api.send({ to: 'ann@example.com' });
    await eventually('another connection', () => raw.sockets.size > 0);
    const began = Date.now();
    await api.server.stop();
    assert.ok(Date.now() - began < 5000);
    await raw.close();
    const smtp = await startMailServer(t, {}, { port: raw.port });
    const server = await startServer(t, { folder });
    const mail = await smtp.take('ann@example.com');
    assert.equal(mail.messageId, `<${task}@example.com>`);
    assert.equal((await actions(server, await signIn(server)).end(task)).attempts, 1);
  });

  test('kill -9 while a mail is being taken: it comes again, and can be told', async (t) => {
    const folder = await temporaryFolder(t);
    const env = {};
    let api = await start(t, { folder, env });
    let killed = null;
    const on = {
      data: (mail) => {
        if (killed) return undefined;
        killed = mail;
        api.server.signal('SIGKILL');
        return new Promise(() => {});
      },
    };
    const smtp = await startMailServer(t, {}, { on });
    await api.useSmtp(smtp.port);
    const task = await api.send({ to: 'ann@example.com' });
    await api.server.ended;
    const server = await startServer(t, { folder, env });
    api = actions(server, await signIn(server));
    const mail = await smtp.take('ann@example.com');
    assert.equal(mail.messageId, killed.messageId);
    assert.equal(mail.messageId, `<${task}@example.com>`);
    assert.equal((await api.end(task)).attempts, 2);
  });
});
