/* "Tell me when it is done": a notification of the browser and a word in the tab's title once the batch has ended. Asked for by
   a click, forgotten with the page. Knows the figures in the panel alone, and so names no document. */
(() => {
  "use strict";

  const rows = () => document.getElementById("document-rows");
  if (!rows()) return;
  const title = document.title;
  let wanted = false;

  function show() {
    const button = rows()?.querySelector("[data-tell-when-done]");
    if (!button) return;
    button.hidden = false;
    button.setAttribute("aria-pressed", String(wanted));
  }

  /* The permission is asked for within the click; without it, the title has to do. */
  async function ask() {
    wanted = !wanted;
    show();
    if (!wanted) return;
    const asked = window.Notification && window.Notification.permission === "default";
    const permission = asked ? await window.Notification.requestPermission() : window.Notification?.permission;
    window.cloister?.announce(
      permission === "granted"
        ? "You will be told as long as this page stays open."
        : "Your browser allows no notifications here. The title of this tab will tell you.",
      true,
    );
  }

  function tell(words) {
    document.title = `${words} · ${title}`;
    window.cloister?.announce(words, true);
    if (window.Notification?.permission !== "granted") return;
    try {
      const notification = new window.Notification(title, { body: words, tag: "cloister-batch" });
      notification.addEventListener("click", () => {
        window.focus();
        notification.close();
      });
    } catch {
      // Chrome on Android notifies through service workers alone, of which we have none: the title has said it.
    }
  }

  function seen() {
    if (!document.hidden) document.title = title;
  }

  document.addEventListener("click", (event) => {
    if (event.target.closest?.("[data-tell-when-done]")) ask();
  });
  document.addEventListener("visibilitychange", seen);
  window.addEventListener("focus", seen);
  document.addEventListener("htmx:afterSettle", () => {
    show();
    const ended = rows()?.querySelector("[data-batch-ended]");
    if (!wanted || !ended) return;
    wanted = false;
    tell(ended.dataset.batchEnded);
  });
  show();
})();
