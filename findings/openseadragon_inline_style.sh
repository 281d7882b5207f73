#!/usr/bin/env bash
# OpenSeadragon puts a style element of its own into the page, which a strict style-src forbids.
#
# Versions   openseadragon 6.1.1, in a page of jsdom 26.1.0
# Behaviour  The first viewer of a page appends <style> with rules for touch screens to its head, and
#            no option turns that off. Under a content security policy with style-src 'self' browsers
#            report a violation of style-src-elem and drop the rules (Chromium 156). No nonce can be
#            given, so a policy without 'unsafe-inline' has to name the hash, which belongs to this
#            version. A style element with the attribute that it looks for prevents it as well.
# Seen       style elements of a page: 0 before a viewer, 1 with one, 1 with two,
#            sha256-9xTiqzfwFaL2SGb1rmr8gysEwVVjIvqWAgmZgqFqpEE=, nonce: none, where one stands: 0 more
# Exits with another status than 0 once that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --no-audit --no-fund --prefix . openseadragon@6.1.1 jsdom@26.1.0
cat > page.cjs <<'JAVASCRIPT'
const assert = require("node:assert");
const { createHash } = require("node:crypto");
const { readFileSync } = require("node:fs");
const { JSDOM, VirtualConsole } = require("jsdom");

const library = readFileSync(require.resolve("openseadragon"), "utf8");

function page(head) {
  const html = `<!doctype html><head>${head}</head><div id="one"></div><div id="two"></div>`;
  const { window } = new JSDOM(html, {
    runScripts: "outside-only",
    virtualConsole: new VirtualConsole(), // it has no canvas, and says so
  });
  window.eval(library);
  return window;
}

const stylesOf = (window) => [...window.document.querySelectorAll("style")];
const show = (window, id) => window.OpenSeadragon({ id, drawer: "html" });

const plain = page("");
assert.strictEqual(plain.OpenSeadragon.version.versionStr, "6.1.1");
const counts = [stylesOf(plain).length];
for (const id of ["one", "two"]) {
  show(plain, id);
  counts.push(stylesOf(plain).length);
}
const [style] = stylesOf(plain);
const hash = `sha256-${createHash("sha256").update(style.textContent).digest("base64")}`;
const nonce = style.nonce || style.getAttribute("nonce") || "none";

const prepared = page('<style data-openseadragon-mobile-css="true"></style>');
const stood = stylesOf(prepared).length;
show(prepared, "one");
const more = stylesOf(prepared).length - stood;

console.log(
  `style elements of a page: ${counts[0]} before a viewer, ${counts[1]} with one, ` +
    `${counts[2]} with two, ${hash}, nonce: ${nonce}, where one stands: ${more} more`,
);
assert.deepStrictEqual(counts, [0, 1, 1]);
assert.strictEqual(style.parentNode, plain.document.head);
assert.strictEqual(hash, "sha256-9xTiqzfwFaL2SGb1rmr8gysEwVVjIvqWAgmZgqFqpEE=");
assert.strictEqual(nonce, "none");
assert.deepStrictEqual([stood, more], [1, 0]);
process.exit(0); // its timers go on for ever
JAVASCRIPT
node page.cjs
