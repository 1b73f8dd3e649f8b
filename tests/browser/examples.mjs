// node examples.mjs URL FOLDER
//
// Uses the three pages of examples/browser at once, and takes pictures of them into FOLDER. Any error on a page, and any in its console
// that is not meant, fails.

import { join } from "node:path";

import { launch } from "./browser.mjs";

const [url, folder] = process.argv.slice(2);
const PAGES = { html: "", react: "react.html", vue: "vue.html" };

const browser = await launch();
const errors = [];
try {
  const context = await browser.newContext({ viewport: { width: 560, height: 640 }, colorScheme: "light" });
  const pages = {};
  for (const [name, path] of Object.entries(PAGES)) {
    const page = (pages[name] = await context.newPage());
    page.setDefaultTimeout(15_000);
    page.on("pageerror", (error) => errors.push(`error on the page ${name}: ${error.stack ?? error}`));
    page.on("console", (message) => {
      const isMeant = message.type() !== "error" || /status of 422/.test(message.text());
      if (!isMeant) errors.push(`error in the console of ${name}: ${message.text()}`);
    });
    await page.goto(`${url}/${path}`);
    await page.getByText("live", { exact: true }).waitFor();
  }
  const all = Object.values(pages);
  const item = (page, text) => page.locator("li", { hasText: text });

  // what each adds, all show
  for (const [name, page] of Object.entries(pages)) {
    await page.getByLabel("What to bring").fill(`A rope from ${name}`);
    await page.getByRole("button", { name: "Add" }).click();
    for (const other of all) await item(other, `A rope from ${name}`).waitFor();
  }
  // so with ticks and removals, from a page that did not add
  const names = Object.keys(pages);
  for (const [index, name] of names.entries()) {
    const next = names[(index + 1) % names.length];
    await item(pages[name], `A rope from ${next}`).getByRole("checkbox").click(); // it is ticked when the event says so
    for (const other of all) await other.locator("li.done", { hasText: `A rope from ${next}` }).waitFor();
  }
  // what the route refuses is told
  for (const page of all) {
    await page.getByLabel("What to bring").fill("");
    await page.getByRole("button", { name: "Add" }).click();
    await page.getByText("at least 1 character").waitFor();
    await page.getByLabel("What to bring").fill("A compass");
    await page.getByRole("button", { name: "Add" }).click();
    await page.getByText("at least 1 character").waitFor({ state: "hidden" });
  }
  for (const page of all) {
    await page.waitForFunction(() => document.querySelectorAll("li").length === 6);
  }
  for (const [name, page] of Object.entries(pages)) await page.screenshot({ path: join(folder, `${name}.png`) });
  for (const [name, page] of Object.entries(pages)) {
    await item(page, `A rope from ${name}`).getByRole("button", { name: "Remove" }).click();
    for (const other of all) await item(other, `A rope from ${name}`).waitFor({ state: "detached" });
  }
  // a page that comes later has what is there
  await pages.html.reload();
  await pages.html.waitForFunction(() => document.querySelectorAll("li").length === 3);
} finally {
  await browser.close();
}
if (errors.length) throw new Error(errors.join("\n"));
