// node screenshot.mjs URL WIDTH HEIGHT OUTPUT.png [STEPS]
//
// Opens a page, takes the steps (the body of an async function that is given `page` and `context` of Playwright; what it returns is
// printed as JSON), and takes a screenshot. An error on the page or in its console fails the run.

import { launch } from "./browser.mjs";

const [url, width, height, output, steps = ""] = process.argv.slice(2);
if (!output) {
  console.error("usage: node screenshot.mjs URL WIDTH HEIGHT OUTPUT.png [STEPS]");
  process.exit(2);
}

const AsyncFunction = (async () => {}).constructor;
const browser = await launch();
const errors = [];
try {
  const context = await browser.newContext({ viewport: { width: Number(width), height: Number(height) } });
  const page = await context.newPage();
  page.setDefaultTimeout(20_000);
  page.on("pageerror", (error) => errors.push(`error on the page: ${error.stack || `${error.name}: ${error.message}`}`));
  page.on("console", (message) => message.type() === "error" && errors.push(`error in the console: ${message.text()}`));
  await page.goto(url);
  const result = await new AsyncFunction("page", "context", steps)(page, context);
  await page.screenshot({ path: output });
  if (result !== undefined) console.log(JSON.stringify(result));
} finally {
  await browser.close();
}
if (errors.length) {
  console.error(errors.join("\n"));
  process.exitCode = 1;
}
