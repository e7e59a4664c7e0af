/** Mails, asked of a server: what to set, what to send, and what became of it. */
import assert from 'node:assert/strict';
import { startServer } from './program.mjs';
import { operatorToken } from './superuser.mjs';

/** The settings of a mail server on loopback. */
export const smtpOf = (port, more = {}) => ({
  enabled: true,
  host: '127.0.0.1',
  port,
  tls: false,
  username: '',
  password: '',
  authMethod: '',
  ...more,
});

/** What a test does with a server: ask, set, send, and look for what became of it. */
export function actions(server, token, tenant) {
  const ask = (method, path, body) => server.request(method, path, body, { token, tenant });
  const set = async (settings) => {
    const answer = await ask('PATCH', '/api/settings', settings);
    assert.equal(answer.status, 200, answer.text);
  };
  return {
    server,
    ask,
    set,
    useSmtp: (port, more) => set({ smtp: smtpOf(port, more) }),
    async send(mail) {
      const answer = await ask('POST', '/api/mail', { subject: 'Hello', text: 'A text', ...mail });
      assert.equal(answer.status, 202, answer.text);
      assert.deepEqual(Object.keys(answer.body), ['id']);
      assert.match(answer.body.id, /^[a-z0-9]{15}$/);
      return answer.body.id;
    },
    /** The event of a task's end. A page may be empty and say that there is more: on to that. */
    async end(task, type = 'mail.sent') {
      const path = `/api/events?types=mail.*&subject=mail/${task}&wait=5`;
      const deadline = Date.now() + 15_000;
      let page;
      do {
        page = await ask('GET', path);
        assert.equal(page.status, 200, page.text);
      } while (page.body.events.length === 0 && Date.now() < deadline);
      const story = server.log.filter((line) => /mail|lane/.test(line)).join('\n');
      assert.equal(page.body.events[0]?.type, type, `${task}: ${page.text}\n${story}`);
      assert.equal(page.body.events[0].payload.task, task);
      return page.body.events[0].payload;
    },
    test: (email, more = {}) =>
      ask('POST', '/api/settings/test/email', { template: 'otp', email, ...more }),
    async refused(email) {
      const answer = await this.test(email);
      assert.equal(answer.status, 400, answer.text);
      assert.match(answer.body.message, /^Failed to send the test email\. Raw error: \n/);
      return answer.body.message;
    },
  };
}

/** A server of the test's own and its superuser's actions. */
export async function start(t, options) {
  const server = await startServer(t, options);
  return actions(server, await operatorToken(server));
}

