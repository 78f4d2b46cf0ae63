/* Results that follow the typing. htmx sends what the box holds once nothing was typed for a moment, and replaces the request
   that runs (templates/search/search.html); this says when there is nothing to send, and tells the server when somebody
   stopped at what they see: that was a search, the requests before it were not. Keeps nothing and changes no address. */
(() => {
  "use strict";

  const SETTLES_AFTER = 2000; // ms without another letter
  const form = document.querySelector("#search-form");
  const instant = form.querySelector("[data-instant]");
  const box = form.querySelector("[data-search]");
  const results = document.querySelector("#results");

  function asked() {
    const fields = new URLSearchParams(new FormData(form));
    fields.delete("csrfmiddlewaretoken");
    fields.set("q", box.value.trim());
    return fields;
  }
  let sent = asked().toString();
  let shown = null; // what was typed and has its results on the page, until it is told
  let timer = 0;

  // A request that the next one replaced is no mistake; what has really failed htmx tells by another event's name besides.
  window.htmx.logger = (elt, name, detail) => {
    if (name === "htmx:sendAbort" || (name === "htmx:afterRequest" && !detail.xhr.status)) delete detail.error;
  };

  const isOurs = (detail) => detail.elt === instant || detail.elt === form;
  document.addEventListener("htmx:confirm", (event) => {
    if (event.detail.elt !== instant) return;
    if ([...box.value.trim()].length === 1 || asked().toString() === sent) event.preventDefault();
  });
  document.addEventListener("htmx:beforeRequest", ({ detail }) => {
    if (!isOurs(detail)) return;
    clearTimeout(timer);
    shown = null;
    sent = asked().toString();
    results.setAttribute("aria-busy", "true");
  });
  document.addEventListener("htmx:afterRequest", ({ detail }) => {
    if (!isOurs(detail)) return;
    if (detail.xhr.status) results.removeAttribute("aria-busy"); // of one that was replaced the next is under way
    if (!detail.successful && detail.xhr.status) sent = ""; // the same words may be sent again
    if (detail.elt === instant && detail.successful && results.querySelector(".result, .empty")) {
      shown = new URLSearchParams(sent);
      timer = setTimeout(settle, SETTLES_AFTER);
    }
  });
  for (const failed of ["htmx:sendError", "htmx:timeout"]) {
    document.addEventListener(failed, ({ detail }) => {
      if (!isOurs(detail)) return;
      sent = "";
      results.removeAttribute("aria-busy");
    });
  }

  function settle() {
    clearTimeout(timer);
    if (!shown) return;
    const headers = { "X-CSRFToken": window.cloister.csrf() };
    fetch(form.dataset.settled, { method: "POST", body: shown, headers, keepalive: true }).catch(() => {});
    shown = null;
  }
  // A result that is opened, shared or saved was looked for.
  for (const kind of ["click", "auxclick"]) {
    results.addEventListener(kind, (event) => event.target.closest("a, button, summary") && settle());
  }
})();
