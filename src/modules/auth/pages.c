/*
 * The page at /_/: where signing in elsewhere ends, and where the links of our mails lead. What is
 * behind the '#' says which it is, and never reaches a server by itself:
 *
 *   #/auth/oauth2-redirect-success, …-failure  told without a script
 *   #/auth/confirm-verification/TOKEN          a button, since programs that look at mails open
 *                                              links: opening one must change nothing
 *   #/auth/confirm-password-reset/TOKEN        a new password
 *   #/auth/confirm-email-change/TOKEN          the password
 *
 * The token leaves the page in the body of one POST to this server, to the collection that its
 * claims name. The policy lets in this script and this style by their hashes and nothing else.
 */
#include "auth.h"
#include "bakend/crypto.h"
#include "bakend/encode.h"

static const char page_head[] =
    "<!DOCTYPE html>\n"
    "<html lang=\"en\">\n"
    "<meta charset=\"utf-8\">\n"
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
    "<meta name=\"robots\" content=\"noindex\">\n"
    "<title>Bakend</title>\n"
    "<style>";

static const char page_style[] =
    ":root{color-scheme:light dark}\n"
    "body{font:1.1em/1.5 sans-serif;margin:15vh auto;max-width:26em;padding:0 1em}\n"
    "body>p{display:none;text-align:center}body>p:target{display:block}\n"
    "p:target~noscript{display:none}\n"
    "h1{font-size:1.4em}label,input,button{display:block;width:100%;box-sizing:border-box}\n"
    "input,button{font:inherit;padding:.6em;margin:.2em 0 .1em}label,button{margin-top:1em}\n"
    ".error{color:#c22}[hidden]{display:none}\n";

static const char page_body[] =
    "</style>\n"
    "<p id=\"/auth/oauth2-redirect-success\">Auth completed. You can close this window and go "
    "back to the app.</p>\n"
    "<p id=\"/auth/oauth2-redirect-failure\">Failed to authenticate. You can close this window "
    "and go back to the app to try again.</p>\n"
    "<noscript>The links of mails need JavaScript: allow it for this page.</noscript>\n"
    "<main hidden>\n"
    "<h1 tabindex=\"-1\"></h1>\n"
    "<form novalidate></form>\n"
    "<div id=\"told\" role=\"alert\"></div>\n"
    "</main>\n"
    "<script>";

static const char page_script[] =
    "\n"
    "'use strict';\n"
    "const secret = { password: 'New password', passwordConfirm: 'The new password again' };\n"
    "const flows = {\n"
    " 'confirm-verification': ['Confirm your email address', {}, 'Confirm',\n"
    "  'Your email address is confirmed. You can close this page.'],\n"
    " 'confirm-password-reset': ['Choose a new password', secret, 'Set password',\n"
    "  'Your password is changed. You can sign in with it now.'],\n"
    " 'confirm-email-change': ['Confirm your new email address', { password: 'Your password' "
    "},\n"
    "  'Confirm', 'Your email address is changed. You can sign in with it now.'],\n"
    "};\n"
    "const main = document.querySelector('main');\n"
    "const heading = document.querySelector('h1');\n"
    "const form = document.querySelector('form');\n"
    "const told = document.getElementById('told');\n"
    "\n"
    "function make(name, members) {\n"
    " return form.appendChild(Object.assign(document.createElement(name), members));\n"
    "}\n"
    "\n"
    "function tell(text, isError) {\n"
    " told.className = isError ? 'error' : '';\n"
    " told.textContent = text;\n"
    "}\n"
    "\n"
    "function collectionOf(token) {\n"
    " try {\n"
    "  const text = token.split('.')[1].replace(/-/g, '+').replace(/_/g, '/');\n"
    "  const id = JSON.parse(atob(text)).collectionId;\n"
    "  return /^\\w+$/.test(id) ? id : '';\n"
    " } catch {\n"
    "  return '';\n"
    " }\n"
    "}\n"
    "\n"
    "function mark(input, text) {\n"
    " input.setAttribute('aria-invalid', text !== '');\n"
    " document.getElementById(input.id + '-error').textContent = text;\n"
    "}\n"
    "\n"
    "function showProblems(answer, wait) {\n"
    " const left = [];\n"
    " let first = null;\n"
    " for (const [name, { message }] of Object.entries(answer.data || {})) {\n"
    "  const input = form.elements.namedItem(name);\n"
    "  if (input) mark(input, message);\n"
    "  else if (name === 'token')\n"
    "   left.push('This link is no longer good, or was used already. Ask for a new mail.');\n"
    "  else left.push(message);\n"
    "  first = first || input;\n"
    " }\n"
    " if (wait) left.push('Too many attempts: wait ' + wait + ' seconds, then try again.');\n"
    " else if (left.length === 0 && !first) left.push(answer.message || 'It failed. Try again "
    "later.');\n"
    " tell(left.join(' '), true);\n"
    " if (first) first.focus();\n"
    "}\n"
    "\n"
    "async function send(action, collection, token, done) {\n"
    " const body = { token };\n"
    " for (const input of form.querySelectorAll('input')) {\n"
    "  body[input.name] = input.value;\n"
    "  mark(input, '');\n"
    " }\n"
    " tell('', false);\n"
    " const response = await fetch('../api/collections/' + collection + '/' + action, {\n"
    "  method: 'POST',\n"
    "  headers: { 'content-type': 'application/json' },\n"
    "  body: JSON.stringify(body),\n"
    "  credentials: 'omit',\n"
    " });\n"
    " const answer = response.ok ? null : await response.json();\n"
    " if (answer) {\n"
    "  showProblems(answer, response.status === 429 && response.headers.get('retry-after'));\n"
    "  return;\n"
    " }\n"
    " history.replaceState(null, '', location.pathname);\n"
    " form.replaceChildren();\n"
    " tell(done, false);\n"
    "}\n"
    "\n"
    "function show() {\n"
    " const [, action, token] = /^#\\/auth\\/([a-z-]+)\\/([\\w.-]+)$/.exec(location.hash) || "
    "[];\n"
    " const isKnown = Object.hasOwn(flows, action || '');\n"
    " const collection = isKnown ? collectionOf(token) : '';\n"
    " const isBroken = !collection && /^#\\/auth\\/confirm-/.test(location.hash);\n"
    " main.hidden = !collection && !isBroken;\n"
    " tell(isBroken ? 'This link is not whole. Open it from the mail again.' : '', true);\n"
    " heading.textContent = isBroken ? 'A broken link' : '';\n"
    " if (!collection) return;\n"
    " const [title, fields, button, done] = flows[action];\n"
    " heading.textContent = document.title = title;\n"
    " for (const [name, label] of Object.entries(fields)) {\n"
    "  make('label', { htmlFor: name, textContent: label });\n"
    "  const kind = fields === secret ? 'new-password' : 'current-password';\n"
    "  const input = make('input', { type: 'password', id: name, name, autocomplete: kind });\n"
    "  input.setAttribute('aria-describedby', name + '-error');\n"
    "  make('div', { id: name + '-error', className: 'error' });\n"
    " }\n"
    " const submit = make('button', { textContent: button });\n"
    " form.onsubmit = async (event) => {\n"
    "  event.preventDefault();\n"
    "  submit.disabled = true;\n"
    "  try {\n"
    "   await send(action, collection, token, done);\n"
    "  } catch {\n"
    "   tell('The server could not be reached. Try again.', true);\n"
    "  }\n"
    "  submit.disabled = false;\n"
    " };\n"
    " heading.focus();\n"
    "}\n"
    "\n"
    "addEventListener('hashchange', () => location.reload());\n"
    "show();\n";

static const char page_tail[] = "</script>\n"
                                "</html>\n";

/* Base64 of the hash, as policies want it: 43 characters and one of padding. */
static struct bk_slice hash_of(struct bk_request *request, const char *text) {
    uint8_t digest[BK_SHA256_BYTES];
    char encoded[BK_SHA256_BYTES * 2];
    bk_sha256(digest, bk_slice_from(text));
    size_t length = bk_base64url_encode(encoded, digest, sizeof digest);
    for (size_t i = 0; i < length; i++)
        if (encoded[i] == '-' || encoded[i] == '_')
            encoded[i] = encoded[i] == '-' ? '+' : '/';
    return bk_arena_format(&request->arena, "%.*s=", (int)length, encoded);
}

void auth_page(struct bk_request *request) {
    static const char *const parts[] = {page_head, page_style, page_body, page_script, page_tail};
    struct bk_slice script = hash_of(request, page_script), style = hash_of(request, page_style);
    request->content_type = "text/html; charset=utf-8";
    bk_answer_header(
        request, "Content-Security-Policy",
        bk_arena_format(&request->arena,
                        "default-src 'none'; script-src 'sha256-%.*s'; style-src 'sha256-%.*s'; "
                        "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; "
                        "form-action 'none'",
                        BK_SLICE_PRINT(script), BK_SLICE_PRINT(style)));
    bk_answer_header(request, "Cache-Control", BK_SLICE("no-store"));
    bk_answer_header(request, "Referrer-Policy", BK_SLICE("no-referrer"));
    for (size_t i = 0; i < BK_COUNT_OF(parts); i++)
        bk_buffer_append_slice(&request->out, bk_slice_from(parts[i]));
    bk_answer(request, 200);
}
