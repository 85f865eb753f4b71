// The page of the reference app. Texts reach the page as text only, so no document can inject markup.

const TEXTS = {
  de: {
    title: "FlowAudit-Referenzanwendung", heading: "Dokumente zusammenfassen", skip: "Zum Inhalt", languages: "Sprache",
    health: "Zustand", healthy: "in Ordnung", degraded: "eingeschränkt", unhealthy: "gestört", unreachable: "nicht erreichbar",
    upload: "Dokument hochladen", file: "Datei (PDF oder Text)", send: "Hochladen", sending: "Wird hochgeladen …",
    sent: "Das Dokument ist angenommen.", notSent: "Das Dokument wurde nicht angenommen: ", noAnswer: "keine Antwort",
    hint: (megabytes, pages) => `Höchstens ${megabytes} MB und ${pages} Seiten.`,
    documents: "Dokumente", none: "Noch keine Dokumente.", release: "Version der Oberfläche", backend: "Version",
    queued: "wartet", processing: "in Arbeit", done: "fertig", failed: "fehlgeschlagen",
    facts: (pages, characters) => `${pages} Seite(n), ${characters} Zeichen`, changed: (name, status) => `${name}: ${status}`,
  },
  en: {
    title: "FlowAudit reference app", heading: "Summarise documents", skip: "Skip to content", languages: "Language",
    health: "Health", healthy: "healthy", degraded: "degraded", unhealthy: "unhealthy", unreachable: "unreachable",
    upload: "Upload a document", file: "File (PDF or text)", send: "Upload", sending: "Uploading …",
    sent: "The document was accepted.", notSent: "The document was not accepted: ", noAnswer: "no answer",
    hint: (megabytes, pages) => `At most ${megabytes} MB and ${pages} pages.`,
    documents: "Documents", none: "No documents yet.", release: "Version of this page", backend: "Version",
    queued: "queued", processing: "processing", done: "done", failed: "failed",
    facts: (pages, characters) => `${pages} page(s), ${characters} characters`, changed: (name, status) => `${name}: ${status}`,
  },
};

const REFRESH_MS = 5000;
const byId = (id) => document.getElementById(id);

let language = localStorage.getItem("language") ?? (navigator.language.startsWith("de") ? "de" : "en");
if (!(language in TEXTS)) language = "de";
let text = TEXTS[language];

// What was shown last, so that a change of language needs no request and only changes are announced.
const shown = { health: null, documents: [], limits: null };

function element(name, content, className) {
  const made = document.createElement(name);
  made.textContent = content;
  if (className) made.className = className;
  return made;
}

function announce(message) {
  byId("message").textContent = message;
}

function showHealth() {
  const report = shown.health;
  const status = report?.status ?? "unreachable";
  byId("health-status").textContent = text[status];
  byId("health-status").className = `badge ${report ? status : "unhealthy"}`;
  byId("health-version").textContent = report ? [text.backend, report.version, report.colour].filter(Boolean).join(" ") : "";
  byId("health-services").replaceChildren(
    ...Object.entries(report?.services ?? {}).map(([name, service]) =>
      element("li", `${name}: ${text[service.status]}`, service.status)),
  );
}

function documentItem(each) {
  const item = document.createElement("li");
  const state = element("p", "");
  state.append(element("span", text[each.status], `badge ${each.status}`), ` ${text.facts(each.pages, each.characters)}`);
  item.append(element("h3", each.filename), state);
  if (each.error) item.append(element("p", each.error, "failed"));
  if (each.result) {
    const summary = element("p", each.result.summary);
    if (each.result.language) summary.lang = each.result.language;
    item.append(summary);
  }
  return item;
}

function showDocuments() {
  byId("documents-empty").hidden = shown.documents.length > 0;
  byId("documents").replaceChildren(...shown.documents.map(documentItem));
}

function showLimits() {
  const limits = shown.limits;
  byId("file-hint").textContent = limits ? text.hint(Math.floor(limits.max_upload_bytes / 2 ** 20), limits.max_pages) : "";
}

function showLanguage() {
  text = TEXTS[language];
  document.documentElement.lang = language;
  document.title = text.title;
  for (const each of document.querySelectorAll("[data-text]")) each.textContent = text[each.dataset.text];
  for (const each of document.querySelectorAll("[data-label]")) each.ariaLabel = text[each.dataset.label];
  for (const each of document.querySelectorAll("[data-language]")) {
    each.ariaPressed = String(each.dataset.language === language);
  }
  showHealth();
  showDocuments();
  showLimits();
}

async function fetchJson(url) {
  const answer = await fetch(url);
  const content = await answer.json();
  // An unhealthy app says so with status 503 and a full report.
  if (!answer.ok && !content.services) throw new Error(content.error);
  return content;
}

async function refreshHealth() {
  shown.health = await fetchJson("/api/health").catch(() => null);
  showHealth();
}

async function refreshDocuments() {
  const answer = await fetchJson("/api/documents").catch(() => null);
  if (!answer || JSON.stringify(answer.documents) === JSON.stringify(shown.documents)) return;
  const before = new Map(shown.documents.map((each) => [each.id, each.status]));
  shown.documents = answer.documents;
  showDocuments();
  const changed = shown.documents.filter((each) => before.has(each.id) && before.get(each.id) !== each.status);
  if (changed.length) announce(changed.map((each) => text.changed(each.filename, text[each.status])).join(". "));
}

async function refresh() {
  if (!document.hidden) await Promise.all([refreshHealth(), refreshDocuments()]);
  setTimeout(refresh, REFRESH_MS);
}

async function upload(event) {
  event.preventDefault();
  const form = event.target;
  const button = form.querySelector("button");
  button.disabled = true;
  announce(text.sending);
  try {
    const answer = await fetch("/api/documents/upload", { method: "POST", body: new FormData(form) });
    const content = await answer.json().catch(() => ({ error: `HTTP ${answer.status}` }));
    announce(answer.ok ? text.sent : text.notSent + content.error);
    if (answer.ok) form.reset();
  } catch {
    announce(text.notSent + text.noAnswer);
  }
  button.disabled = false;
  await refreshDocuments();
}

for (const button of document.querySelectorAll("[data-language]")) {
  button.addEventListener("click", () => {
    language = button.dataset.language;
    localStorage.setItem("language", language);
    announce(""); // the last message was in the other language
    showLanguage();
  });
}
byId("upload").addEventListener("submit", upload);
showLanguage();
refresh();
fetchJson("/api/settings").then((settings) => {
  shown.limits = settings.limits;
  showLimits();
}).catch(() => {}); // only the hint about limits is missing
