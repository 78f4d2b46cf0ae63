/* Uploading: drag and drop, many files or a folder, one request for each file, two at a time, each with its own progress,
   cancel and words. Knows the form it stands in (action, fields, the name of its file input), not what a document is.
   Without this script the form sends all its files in one request. */
(() => {
  "use strict";

  const AT_ONCE = 2;
  const LARGE = 16 * 1024 * 1024; // bytes; larger files are sent in pieces
  const TRIES = 8; // of one piece, about two minutes
  const decimal = (bytes) => {
    const units = ["bytes", "kB", "MB", "GB"];
    let unit = 0;
    while (bytes >= 999.95 && unit < units.length - 1) {
      bytes /= 1000;
      unit += 1;
    }
    return `${unit ? bytes.toFixed(1) : bytes} ${units[unit]}`;
  };
  const plural = (count, one, many) => `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
  const element = (name, className, text) => {
    const made = document.createElement(name);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  };

  /* What the server says about the file, or what its silence means. */
  function refusal(status, answer) {
    const said = answer?.errors?.[0]?.message;
    if (said) return said;
    if (status === 0) return "The connection broke. Nothing of this file was kept. Try again.";
    if (status === 401 || status === 403) return "You are signed out or may not upload here. Reload the page.";
    if (status === 413) return "This file is larger than this installation accepts.";
    return "The upload failed on our side. Nothing of this file was kept. Try again.";
  }

  function read(entry, path = "") {
    return new Promise((resolve) => {
      if (entry.isFile) {
        entry.file((file) => resolve([{ file, path: path + file.name }]), () => resolve([]));
        return;
      }
      const reader = entry.createReader();
      const found = [];
      const more = () => reader.readEntries(async (entries) => {
        if (!entries.length) {
          resolve(found.flat());
          return;
        }
        for (const child of entries) found.push(await read(child, `${path}${entry.name}/`));
        more();
      }, () => resolve(found.flat()));
      more();
    });
  }

  function uploader(form) {
    const zone = form.querySelector(".dropzone") || form;
    const input = form.querySelector('input[type="file"]');
    if (!input) return;
    // The form's own button chooses files from now on, and each is sent as soon as it is chosen.
    input.required = false;
    input.tabIndex = -1;
    input.classList.add("visually-hidden");

    const uploads = [];
    let running = 0;
    let refreshTimer = 0;
    let pausedUntil = 0;

    const board = element("div", "uploads");
    board.hidden = true;
    const summary = element("div", "progress");
    const bar = element("progress");
    bar.max = 1;
    bar.value = 0;
    bar.setAttribute("aria-label", "All files");
    const words = element("span");
    const stop = element("button", "btn btn-secondary", "Cancel all");
    stop.type = "button";
    summary.append(bar, words, stop);
    const list = element("ul", "upload-list");
    list.setAttribute("aria-label", "Files");
    list.tabIndex = 0;
    board.append(summary, list);
    (form.querySelector("[data-uploads]") || form).append(board);

    const count = (state) => uploads.filter((upload) => upload.state === state).length;
    const open = () => uploads.filter((upload) => upload.state === "waiting" || upload.state === "sending");

    function show() {
      const ended = uploads.filter((upload) => upload.state !== "cancelled");
      const total = ended.reduce((sum, upload) => sum + upload.file.size + 1, 0);
      const sent = ended.reduce((sum, upload) => sum + upload.sent, 0);
      // A bar never goes back, although files may be added while it runs: then only the words change.
      bar.value = open().length ? Math.max(bar.value, total ? Math.min(sent / total, 0.999) : 0) : 1;
      const done = count("done");
      const here = uploads.filter((upload) => upload.state === "failed" && upload.anyway).length;
      const failed = count("failed") - here;
      const left = open().length;
      const parts = left
        ? [`Uploading: ${done.toLocaleString("en")} of ${plural(ended.length, "file", "files")}`]
        : [`${plural(done, "file", "files")} uploaded`];
      const pause = left ? Math.ceil((pausedUntil - Date.now()) / 1000) : 0;
      if (pause > 0) parts.push(`too many in a short time, goes on in ${plural(pause, "second", "seconds")}`);
      if (here) parts.push(`${here.toLocaleString("en")} already here`);
      if (failed) parts.push(`${failed.toLocaleString("en")} failed`);
      if (count("cancelled")) parts.push(`${count("cancelled").toLocaleString("en")} cancelled`);
      words.textContent = parts.join(" · ");
      stop.hidden = !left;
      bar.hidden = !left;
      window.cloister?.announce(words.textContent);
    }

    function say(upload, state, text, url) {
      upload.state = state;
      upload.row.dataset.state = state;
      upload.status.textContent = text;
      if (state === "done" || state === "failed" || state === "cancelled") {
        upload.sent = upload.file.size + 1;
        upload.cancel.hidden = true;
        upload.bar.hidden = true;
      }
      upload.status.className = `state ${{ done: "state-ready", failed: "state-failed", sending: "state-working" }[state] || ""}`;
      if (url) {
        const link = element("a", "", upload.path);
        link.href = url;
        upload.name.firstChild.replaceWith(link);
      }
    }

    function fail(upload, text, again = false) {
      say(upload, "failed", "Failed");
      upload.said.textContent = text;
      upload.said.hidden = false;
      if (!again) return;
      upload.cancel.textContent = "Retry";
      upload.cancel.setAttribute("aria-label", `Retry ${upload.path}`);
      upload.cancel.hidden = false;
    }

    /* The same bytes are here: say where, and take the file once more only when asked to. */
    function already(upload, answer) {
      fail(upload, `${refusal(422, answer)} `, true);
      upload.status.textContent = "Already here";
      upload.status.className = "state";
      const link = element("a", "", `Open “${answer.already[0].title}”`);
      link.href = answer.already[0].url;
      upload.said.className = "upload-said meta";
      upload.said.append(link);
      upload.cancel.textContent = "Upload anyway";
      upload.cancel.setAttribute("aria-label", `Upload ${upload.path} anyway`);
      upload.anyway = true;
    }

    function refresh() {
      clearTimeout(refreshTimer);
      refreshTimer = setTimeout(() => {
        document.body.dispatchEvent(new CustomEvent("documents-changed", { bubbles: true }));
      }, 400);
    }

    /* Refused for now: it waits like the others, and all go on when the server said. */
    function pause(upload, seconds) {
      say(upload, "waiting", "Waiting");
      upload.sent = 0;
      upload.bar.value = 0;
      if (Date.now() < pausedUntil) return;
      pausedUntil = Date.now() + 1000 * seconds;
      const tick = setInterval(() => {
        if (Date.now() >= pausedUntil) {
          clearInterval(tick);
          next();
        } else show();
      }, 1000);
    }

    function next() {
      while (running < AT_ONCE && Date.now() >= pausedUntil) {
        const upload = uploads.find((candidate) => candidate.state === "waiting");
        if (!upload) break;
        send(upload);
      }
      show();
    }

    /* One request of an upload in pieces: its status (0: no connection) and what it was answered. */
    function ask(upload, method, url, body, progress) {
      return new Promise((resolve) => {
        const request = new XMLHttpRequest();
        upload.request = request;
        request.open(method, url);
        request.setRequestHeader("Accept", "application/json");
        request.setRequestHeader("X-CSRFToken", window.cloister?.csrf() || "");
        if (progress) request.upload.addEventListener("progress", (event) => progress(event.loaded));
        request.addEventListener("loadend", () => {
          let answer = null;
          try {
            answer = JSON.parse(request.responseText);
          } catch {
            answer = null;
          }
          resolve({ status: request.status, answer, after: Number(request.getResponseHeader("Retry-After")) || 0 });
        });
        request.send(body);
      });
    }

    function sent(upload, bytes) {
      if (upload.state !== "sending") return;
      upload.sent = bytes;
      upload.bar.value = bytes / upload.file.size;
      upload.status.textContent = `${Math.floor((100 * bytes) / upload.file.size)}%`;
      show();
    }

    /* Piece by piece, from where the server says it is; a broken connection is waited for, and no piece sent twice. */
    async function sendPieces(upload) {
      const { file } = upload;
      const about = new FormData();
      for (const [name, value] of upload.chosen) about.append(name, value);
      about.append("name", file.name);
      about.append("size", file.size);
      about.append("modified", file.lastModified);
      about.append("path", upload.path);
      let at = null; // what the server said last of how far it is
      let broken = 0;
      while (upload.state === "sending") {
        let found;
        if (!at) found = await ask(upload, "POST", form.dataset.pieces, about);
        else if (at.offset < file.size) {
          const { offset } = at;
          const piece = file.slice(offset, offset + at.piece_bytes);
          found = await ask(upload, "PUT", `${at.url}?offset=${offset}`, piece, (loaded) => sent(upload, offset + loaded));
        } else {
          upload.status.textContent = "Storing…";
          const wish = new FormData();
          if (upload.anyway) wish.append("anyway", "1");
          found = await ask(upload, "POST", at.complete, wish);
        }
        const { status, answer, after } = found;
        if (upload.state !== "sending") break;
        const stored = answer?.documents?.[0];
        if (stored) {
          say(upload, "done", "Uploaded", stored.url);
          refresh();
        } else if (answer?.url && (status === 200 || status === 409)) {
          broken = 0;
          at = answer;
          sent(upload, at.offset);
        } else if (status === 0 || status === 400 || status === 429 || status >= 500) {
          broken += 1;
          if (broken > TRIES) fail(upload, "The connection broke. What has arrived is kept for some hours: try again, and it goes on from there.", true);
          else {
            upload.status.textContent = "Waiting for the connection";
            await new Promise((resolve) => setTimeout(resolve, 1000 * (after || Math.min(2 ** (broken - 1), 30))));
          }
        } else if (status === 404 && at) at = null; // not kept that long, or no longer ours: asked for anew, that is said
        else if (status < 300 && !answer) fail(upload, "You are signed out. Reload the page and sign in to go on.");
        else if (answer?.already?.length) already(upload, answer);
        else fail(upload, refusal(status, answer));
      }
      if (upload.state === "cancelled" && at) ask(upload, "DELETE", at.url);
      running -= 1;
      next();
      if (!open().length) refresh();
    }

    function send(upload) {
      running += 1;
      say(upload, "sending", "0%");
      const withFile = upload.chosen.some(([, value]) => value instanceof File); // what describes it comes in the form alone
      if (form.dataset.pieces && upload.file.size > LARGE && !withFile) {
        upload.inPieces = true;
        sendPieces(upload);
        return;
      }
      const body = new FormData();
      for (const [name, value] of upload.chosen) body.append(name, value);
      if (upload.anyway) body.append("anyway", "1");
      body.append("path", upload.path); // within the folder that was dropped: by it a file is told from others of its name
      body.append(input.name, upload.file, upload.file.name);
      const request = new XMLHttpRequest();
      upload.request = request;
      request.open("POST", form.action || location.href);
      request.setRequestHeader("Accept", "application/json");
      request.setRequestHeader("X-CSRFToken", window.cloister?.csrf() || "");
      request.upload.addEventListener("progress", (event) => {
        if (!event.lengthComputable || upload.state !== "sending") return;
        const part = event.loaded / event.total;
        upload.sent = part * upload.file.size;
        upload.bar.value = part;
        upload.status.textContent = part < 1 ? `${Math.floor(part * 100)}%` : "Storing…";
        show();
      });
      const end = () => {
        running -= 1;
        next();
        if (!open().length) refresh();
      };
      request.addEventListener("load", () => {
        let answer = null;
        try {
          answer = JSON.parse(request.responseText);
        } catch {
          answer = null;
        }
        const stored = answer?.documents?.[0];
        if (stored) {
          say(upload, "done", "Uploaded", stored.url);
          refresh();
        } else if (request.status < 300 && !answer) {
          fail(upload, "You are signed out. Reload the page and sign in to go on."); // the sign-in page came instead
        } else if (request.status === 429) {
          pause(upload, Number(request.getResponseHeader("Retry-After")) || 60);
        } else if (answer?.already?.length) {
          already(upload, answer);
        } else {
          fail(upload, refusal(request.status, answer), request.status >= 500);
        }
        end();
      });
      request.addEventListener("error", () => {
        fail(upload, refusal(0), true);
        end();
      });
      request.addEventListener("abort", () => {
        say(upload, "cancelled", "Cancelled");
        end();
      });
      request.send(body);
    }

    function cancel(upload) {
      if (upload.state === "sending") {
        if (upload.inPieces) say(upload, "cancelled", "Cancelled");
        upload.request.abort();
      }
      else if (upload.state === "waiting") {
        say(upload, "cancelled", "Cancelled");
        show();
      } else if (upload.state === "failed") {
        upload.said.hidden = true;
        upload.bar.hidden = false;
        upload.bar.value = 0;
        upload.sent = 0;
        upload.cancel.textContent = "Cancel";
        upload.cancel.setAttribute("aria-label", `Cancel ${upload.path}`);
        upload.cancel.hidden = false;
        say(upload, "waiting", "Waiting");
        next();
      }
    }

    function add(files) {
      const most = Number(form.dataset.maxBytes) || Infinity;
      const started = !open().length;
      if (started) bar.value = 0;
      const rows = document.createDocumentFragment();
      // What the form says now: what is typed while they wait is for the files that are chosen then. A file: metadata.
      const chosen = [...new FormData(form)].filter(([name, value]) => name !== input.name && (!(value instanceof File) || value.name));
      for (const { file, path } of files) {
        if (/(^|\/)(\.DS_Store|Thumbs\.db|desktop\.ini)$/i.test(path)) continue;
        const row = element("li", "upload");
        const name = element("span", "upload-name");
        name.append(element("span", "", path));
        name.title = path;
        name.append(" ", element("span", "upload-size", decimal(file.size)));
        const bar = element("progress", "upload-bar");
        bar.max = 1;
        bar.value = 0;
        bar.setAttribute("aria-label", path);
        const status = element("span", "state");
        const button = element("button", "btn btn-quiet btn-small", "Cancel");
        button.type = "button";
        button.setAttribute("aria-label", `Cancel ${path}`);
        const said = element("p", "upload-said meta bad");
        said.hidden = true;
        row.append(name, bar, status, button, said);
        const upload = { file, path, chosen, row, name, bar, status, cancel: button, said, sent: 0, state: "waiting" };
        button.addEventListener("click", () => cancel(upload));
        uploads.push(upload);
        rows.append(row);
        say(upload, "waiting", "Waiting");
        if (file.size === 0) fail(upload, "This file is empty.");
        else if (file.size > most) fail(upload, `This file is larger than the ${decimal(most)} this installation accepts.`);
      }
      list.append(rows);
      board.hidden = !uploads.length;
      next();
    }

    stop.addEventListener("click", () => open().forEach(cancel));
    input.addEventListener("change", () => {
      add([...input.files].map((file) => ({ file, path: file.name })));
      input.value = "";
    });
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      input.click();
    });

    let depth = 0;
    const hasFiles = (event) => [...(event.dataTransfer?.types || [])].includes("Files");
    const over = (on) => (on ? (zone.dataset.over = "") : delete zone.dataset.over);
    // Dropped anywhere on the page: missing the box must not make the browser open the file and leave the page.
    document.addEventListener("dragenter", (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      depth += 1;
      over(true);
    });
    document.addEventListener("dragover", (event) => hasFiles(event) && event.preventDefault());
    document.addEventListener("dragleave", (event) => {
      if (!hasFiles(event)) return;
      depth = Math.max(0, depth - 1);
      if (!depth) over(false);
    });
    document.addEventListener("drop", async (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      depth = 0;
      over(false);
      const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
      if (entries.length) add((await Promise.all(entries.map((entry) => read(entry)))).flat());
      else add([...event.dataTransfer.files].map((file) => ({ file, path: file.name })));
    });
    window.addEventListener("beforeunload", (event) => {
      if (open().length) event.preventDefault();
    });
  }

  document.querySelectorAll("form[data-dropzone]").forEach(uploader);
})();
