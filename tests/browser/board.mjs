// node board.mjs URL FOLDER
//
// Uses the board of examples/board as two people would, and takes pictures of it into FOLDER. What only the test can do it asks for by a
// line of JSON, {"ask": …}, and waits for the answer, a line too. Any error on the page, and any in its console that is not meant, fails.

import { join } from "node:path";
import { createInterface } from "node:readline";

import { launch } from "./browser.mjs";

const [url, folder] = process.argv.slice(2);
const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

async function ask(what, text) {
  console.log(JSON.stringify({ ask: what, text }));
  return JSON.parse((await answers.next()).value);
}

function check(holds, what) {
  if (!holds) throw new Error(`expected ${what}`);
}

const browser = await launch();
const errors = [];
let meant = /^$/; // the errors in the console that the step under way causes

try {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, locale: "en-GB", colorScheme: "light" });
  const page = await context.newPage();
  page.setDefaultTimeout(20_000);
  page.on("pageerror", (error) => errors.push(`error on the page: ${error.stack ?? error}`));
  page.on("console", (message) => message.type() === "error" && !meant.test(message.text()) && errors.push(`error in the console: ${message.text()}`));

  const http = page.locator("#http");
  const socket = page.locator("#socket");
  const both = [http, socket];
  const note = (pane, text) => pane.locator(".note", { hasText: text });
  const wire = (pane, kind, what) => pane.locator(".wire-log summary", { hasText: kind }).filter({ hasText: what });
  const post = async (pane, text) => {
    await pane.locator("[name=text]").fill(text);
    await pane.getByRole("button", { name: "Post" }).click();
  };

  async function bothLive() {
    for (const pane of both) await pane.getByText("Live", { exact: true }).waitFor();
    for (const pane of both) await pane.getByText("2 here").waitFor();
  }

  async function picture(width, height) {
    await page.setViewportSize({ width, height });
    for (const pane of both) await pane.locator(".notes").evaluate((list) => (list.scrollTop = list.scrollHeight));
    for (const pane of both) await pane.locator(".wire-log").evaluate((list) => (list.scrollTop = 0));
    await page.evaluate(() => Promise.all(document.getAnimations().filter((one) => one.effect.getTiming().iterations === 1).map((one) => one.finish())));
    const needed = await page.evaluate(() => document.documentElement.scrollWidth);
    check(needed <= width, `nothing to be wider than the ${width} pixels of the window, not ${needed}`);
    await page.screenshot({ path: join(folder, `board-${width}.png`), fullPage: true });
  }

  // opening
  await page.goto(url);
  await bothLive();
  for (const pane of both) await note(pane, "Both land in the same route").waitFor();

  // each side's action is an event on the other
  await post(http, "Charts for the north channel are drawn.");
  await note(socket, "Charts for the north channel").waitFor();
  await wire(http, "POST", "201").waitFor();
  await wire(socket, "event", "message #").first().waitFor();
  await post(socket, "Then we sail at six, with the tide.");
  await note(http, "Then we sail at six").waitFor();
  await wire(socket, "POST", "201").waitFor();
  check((await ask("read")).includes("Then we sail at six, with the tide."), "an HTTP GET to find what the socket posted");
  await ask("post", "Fresh water for two weeks is on board.");
  for (const pane of both) await note(pane, "Fresh water for two weeks").waitFor();

  // tick, edit, delete
  await note(socket, "Charts for").getByRole("checkbox").check();
  await http.locator(".note.is-done", { hasText: "Charts for" }).waitFor();
  await note(http, "Then we sail at six").getByRole("button", { name: "Edit" }).click();
  await http.locator(".editor [name=text]").fill("");
  meant = /status of 422/;
  await http.getByRole("button", { name: "Save" }).click();
  await http.locator(".editor").getByText("at least 1 character").waitFor();
  meant = /^$/;
  await http.locator(".editor [name=text]").fill("Then we sail at seven, with the tide.");
  await http.getByRole("button", { name: "Save" }).click();
  await socket.locator(".note.was-edited", { hasText: "Then we sail at seven" }).waitFor();
  await http.locator(".editor").waitFor({ state: "detached" });
  for (const [pane, other] of [both, [...both].reverse()]) {
    await post(pane, "A mistake.");
    await note(other, "A mistake.").waitFor();
    await note(pane, "A mistake.").getByRole("button", { name: "Delete" }).click();
    for (const one of both) await note(one, "A mistake.").waitFor({ state: "detached" });
  }

  // somebody writes
  await socket.locator("[name=text]").fill("Is the");
  await http.getByText("Grace is writing…").waitFor();
  await socket.locator("[name=text]").fill("");
  await http.getByText("Grace is writing…").waitFor({ state: "detached" });

  // what the routes refuse, both ways
  for (const pane of both) {
    meant = /status of 422/;
    await post(pane, "   ");
    await pane.getByRole("alert").getByText("text: String should have at least 1 character").waitFor();
    await pane.locator("[name=text][aria-invalid=true]").waitFor();
    await wire(pane, "POST", "422").waitFor();
    meant = /^$/;
    await post(pane, pane === http ? "Who takes the first watch?" : "I do: wake me at four.");
    await pane.getByRole("alert").getByText("at least 1 character").waitFor({ state: "detached" });
  }
  for (const text of ["Who takes the first watch?", "I do: wake me at four."]) for (const pane of both) await note(pane, text).waitFor();

  // rooms
  meant = /status of 4(09|22)/;
  await page.getByLabel("Name of the new room").fill("North Sea");
  await page.getByRole("button", { name: "Open room" }).click();
  await page.getByRole("alert").getByText("use small letters").waitFor();
  await page.getByLabel("Name of the new room").fill("lobby");
  await page.getByRole("button", { name: "Open room" }).click();
  await page.getByRole("alert").getByText("already").waitFor();
  meant = /^$/;
  await page.getByLabel("Name of the new room").fill("harbour");
  await page.getByRole("button", { name: "Open room" }).click();
  for (const pane of both) await pane.getByText("Nothing here yet").waitFor();
  await ask("post", "Still in the lobby."); // not in this room: neither side may hear of it
  await post(socket, "Moored.");
  await note(http, "Moored.").waitFor();
  check((await page.getByText("Still in the lobby.").count()) === 0, "a note of another room not to be here");
  await page.getByRole("button", { name: "lobby" }).click();
  for (const pane of both) await note(pane, "Still in the lobby.").waitFor();
  await note(socket, "Still in the lobby.").getByRole("button", { name: "Delete" }).click();
  await note(http, "Still in the lobby.").waitFor({ state: "detached" });
  await bothLive();

  await post(http, "Everybody is on board.");
  await note(socket, "Everybody is on board.").waitFor();
  await note(socket, "Fresh water").getByRole("checkbox").check();
  await http.locator(".note.is-done", { hasText: "Fresh water" }).waitFor();
  await picture(390, 844);
  await page.setViewportSize({ width: 1280, height: 900 });
  await picture(1280, 900);

  // the server goes and comes back
  meant = /ERR_CONNECTION|ERR_EMPTY_RESPONSE|WebSocket connection to/;
  await ask("stop");
  for (const pane of both) await pane.getByText("Reconnecting…").waitFor();
  await post(socket, "Lost.");
  await post(http, "Lost.");
  for (const pane of both) await pane.getByRole("alert").getByText("The server does not answer").waitFor();
  await ask("start");
  await ask("post", "The server is back.");
  await bothLive();
  meant = /^$/;
  for (const pane of both) await pane.getByRole("alert").getByText("The server does not answer").waitFor({ state: "detached" });
  for (const pane of both) await note(pane, "The server is back.").waitFor();
  for (const pane of both) check((await note(pane, "Everybody is on board.").count()) === 1, "each note once after the reconnection");
  await post(http, "Heard by HTTP.");
  await note(socket, "Heard by HTTP.").waitFor();
  await post(socket, "Heard by socket.");
  await note(http, "Heard by socket.").waitFor();
} finally {
  await browser.close();
}
if (errors.length) throw new Error(errors.join("\n"));
console.log(JSON.stringify({ ask: "done" }));
process.exit(0);
