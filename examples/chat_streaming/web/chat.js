/**
 * The chat's page: what the database says is what is drawn. The address' hash names the open task, so a
 * reload or a second tab shows the same and goes on in the middle of an answer.
 */
import { ReactiveClient, randomUuid } from "/reactivedb.js";
import { drawMarkdown } from "/markdown.js";

const $ = (id) => document.getElementById(id);
const db = new ReactiveClient(location.origin);

let openTaskId = "";
let newestTasks = [];
let userNames = new Map();
let userId;
let streamingIds = [];
/** What to undo when another task is opened. */
let closeTask = () => {};

// The list of tasks

let closeList = () => {};
$("archived").addEventListener("change", openList);

function openList() {
  closeList();
  const archived = $("archived").checked;
  closeList = db.subscribe("tasks:list", { archived }, (tasks) => { newestTasks = tasks; drawTasks(); }, report);
}
db.subscribe("users:list", {}, (users) => { userNames = new Map(users.map((u) => [u._id, u.name])); drawTasks(); });

function drawTasks() {
  const list = $("tasks");
  for (const [index, task] of newestTasks.entries()) {
    const item = keyed(list, task._id, index, () => {
      const item = document.createElement("li");
      item.innerHTML = '<a><span class="title"></span><span class="dot"></span><span class="by"></span></a>';
      item.firstChild.href = `#${task._id}`;
      return item;
    });
    item.dataset.status = task.status;
    item.querySelector(".title").textContent = task.title;
    item.querySelector(".by").textContent = userNames.get(task.userId) ?? "";
    item.querySelector(".dot").title = task.status;
    item.firstChild.toggleAttribute("aria-current", false);
    if (task._id === openTaskId) item.firstChild.setAttribute("aria-current", "page");
  }
  trim(list, newestTasks.length);
}

// The open task

addEventListener("hashchange", openTask);

function openTask() {
  const taskId = location.hash.slice(1);
  if (taskId === openTaskId && taskId) return;
  closeTask();
  openTaskId = taskId;
  $("messages").replaceChildren();
  drawTask(null);
  drawMessages([]);
  drawTasks();
  showDrawer(false);
  // Where focus brings up a keyboard over half of the page, it is left to the reader.
  if (matchMedia("(pointer: fine)").matches) $("prompt").focus();
  closeTask = () => {};
  if (!taskId) return;
  const stops = [
    db.subscribe("tasks:get", { taskId }, drawTask, leaveTask),
    db.subscribe("messages:byTask", { taskId }, drawMessages, report),
  ];
  closeTask = () => stops.forEach((stop) => stop());
}

/** The address names no task of this database: begin at the beginning, rather than show an error for ever. */
function leaveTask(error) {
  report(error);
  location.hash = "";
}

function drawTask(task) {
  $("title").textContent = task?.title ?? "New chat";
  document.title = task ? `${task.title} · Chat` : "Chat";
  $("archive").hidden = !task;
  $("archive").textContent = task?.status === "archived" ? "Restore" : "Archive";
}

function drawMessages(messages) {
  const list = $("messages");
  const wasAtEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 60;
  for (const [index, message] of messages.entries()) {
    // Not the document's id: what a tab shows before the server knows of it keeps its place.
    const item = keyed(list, message.clientMessageId, index, newMessageItem);
    item.dataset.role = message.role;
    item.dataset.status = message.status;
    item.toggleAttribute("data-unsent", message._id.startsWith("unsent:"));
    item.setAttribute("aria-busy", String(message.status === "streaming"));
    const body = item.querySelector(".body");
    if (body.drawn !== message.content) {
      body.drawn = message.content;
      drawMarkdown(body, message.content);
    }
    drawNote(item.querySelector(".note"), message, messages);
  }
  trim(list, messages.length);
  streamingIds = messages.filter((m) => m.status === "streaming").map((m) => m._id);
  $("stop").hidden = streamingIds.length === 0;
  if (wasAtEnd) list.scrollTop = list.scrollHeight;
}

function newMessageItem() {
  const item = document.createElement("li");
  item.className = "message";
  item.innerHTML = '<div class="body"></div><div class="note"></div>';
  return item;
}

function drawNote(note, message, messages) {
  const text = message.status === "failed" ? `Failed: ${message.error ?? "the answer was lost"}`
    : message.status === "stopped" ? "Stopped"
    : message.editedAtMs ? "Edited"
    : "";
  const isNewestAttempt = !messages.some(
    (m) => m.promptMessageId === message.promptMessageId && m.attempt > message.attempt);
  const canRetry = ["failed", "stopped"].includes(message.status) && isNewestAttempt;
  if (note.drawn === text + canRetry) return;
  note.drawn = text + canRetry;
  note.replaceChildren(text);
  if (!canRetry) return;
  const retry = document.createElement("button");
  retry.type = "button";
  retry.textContent = "Try again";
  retry.onclick = () =>
    db.mutation("streaming:retry", { promptMessageId: message.promptMessageId }).catch(report);
  note.append(retry);
}

/** The list's child for `key`, moved to `index`; made if there is none. */
function keyed(list, key, index, make) {
  const inPlace = list.children[index];
  if (inPlace?.dataset.key === key) return inPlace;
  let item = [...list.children].find((child) => child.dataset.key === key);
  if (!item) {
    item = make();
    item.dataset.key = key;
  }
  list.insertBefore(item, inPlace ?? null);
  return item;
}

function trim(list, length) {
  while (list.children.length > length) list.lastChild.remove();
}

// Sending and stopping

$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const content = $("prompt").value.trim();
  if (!content) return;
  $("prompt").value = "";
  $("notice").hidden = true;
  const sent = openTaskId ? send(openTaskId, content) : create(content);
  sent.catch((error) => {
    report(error);
    // What was typed is not lost, unless something new was typed meanwhile.
    $("prompt").value ||= content;
  });
});

async function create(prompt) {
  const created = await db.mutation("tasks:create", { prompt, clientRequestId: randomUuid(), userId });
  if (!openTaskId) location.hash = created.taskId;
}

function send(taskId, content) {
  const clientMessageId = randomUuid();
  const optimistic = (store) => {
    const messages = store.get("messages:byTask", { taskId });
    if (!messages) return;
    const unsent = {
      _id: `unsent:${clientMessageId}`, taskId, clientMessageId, content, role: "user", status: "complete",
      sequence: (messages.at(-1)?.sequence ?? 0) + 1, parts: [],
    };
    store.set("messages:byTask", { taskId }, [...messages, unsent]);
  };
  $("messages").scrollTop = $("messages").scrollHeight;
  return db.mutation("streaming:send", { taskId, content, clientMessageId }, { optimistic });
}

function stopStreaming() {
  if (streamingIds.length > 0) db.mutation("streaming:stop", { taskId: openTaskId }).catch(report);
}

$("stop").addEventListener("click", stopStreaming);
$("prompt").addEventListener("keydown", (event) => {
  // Enter also ends the choice of a character in an input method; that one is not ours.
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    $("composer").requestSubmit();
  }
});
addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  if (document.body.classList.contains("drawer-open")) showDrawer(false);
  else stopStreaming();
});

$("archive").addEventListener("click", () => {
  const archived = $("archive").textContent === "Archive";
  db.mutation("tasks:update", { taskId: openTaskId, archived }).catch(report);
  if (archived) location.hash = "";
});

// Who is here

const remembered = JSON.parse(localStorage.getItem("chat.user") ?? "null") ?? {
  clientUserId: randomUuid(),
  name: `Guest ${Math.floor(100 + Math.random() * 900)}`,
};
$("name").value = remembered.name;
$("name").addEventListener("change", () => rename($("name").value.trim() || remembered.name));
rename(remembered.name);

function rename(name) {
  remembered.name = $("name").value = name;
  localStorage.setItem("chat.user", JSON.stringify(remembered));
  db.mutation("users:ensure", remembered).then((id) => { userId = id; }, report);
}

// The frame

function showDrawer(isShown) {
  document.body.classList.toggle("drawer-open", isShown);
  $("veil").hidden = !isShown;
  $("menu").setAttribute("aria-expanded", String(isShown));
}
$("menu").addEventListener("click", () => showDrawer(true));
$("veil").addEventListener("click", () => showDrawer(false));
$("new-chat").addEventListener("click", () => showDrawer(false));

const PHASES = {
  connecting: "connecting…", open: "connected", waiting: "offline, trying again…", closed: "closed", failed: "refused",
};
db.onConnectionState(({ phase, reason }) => {
  $("connection").dataset.phase = phase;
  $("connection").textContent = PHASES[phase];
  $("connection").title = phase === "open" ? "" : reason;
});

function report(error) {
  console.error(error);
  $("notice").textContent = error.data?.code ?? error.message;
  $("notice").hidden = false;
}
$("notice").addEventListener("click", () => { $("notice").hidden = true; });

openList();
openTask();
